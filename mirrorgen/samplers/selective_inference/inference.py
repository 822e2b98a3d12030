"""Selection by a randomised lasso and inference on what it selected, in one call."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mirrorgen.errors import DomainError, SamplingWarning
from mirrorgen.samplers.selective_inference.density import SelectiveLaw, selective_laws
from mirrorgen.samplers.selective_inference.exact import ExactPivot
from mirrorgen.samplers.selective_inference.lasso import Array, LassoFit, check_design, solve_lasso, theoretical_penalty
from mirrorgen.samplers.selective_inference.pivots import End, RootFinder
from mirrorgen.samplers.selective_inference.result import SelectiveInference
from mirrorgen.samplers.selective_inference.sampled import SampledPivot, Sampler, draw_intervals, mirrored_hmc, refine

__all__ = ["randomized_lasso"]


class _Target(NamedTuple):
    """What is reported of one coefficient."""

    law: SelectiveLaw
    estimate: float
    p_value: float
    ends: list[list[End]]
    checks: list[list[tuple[float, float]]]


def randomized_lasso(
    X: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    *,
    penalty: float | None = None,
    noise_scale: float | None = None,
    ridge: float | None = None,
    sigma: float | None = None,
    levels: Sequence[float] = (0.9,),
    method: Literal["exact", "sampler"] = "exact",
    sampler: Sampler = mirrored_hmc,
    num_samples: int = 2048,
    tolerance: float = 0.007,
    generator: torch.Generator | None = None,
) -> SelectiveInference:
    """Select columns of ``X`` by ``min |y - X b|^2 / 2 + penalty |b|_1 + ridge |b|^2 / 2 - w^T b`` and infer on them.

    ``w ~ N(0, noise_scale^2 I)``. Given the selected set ``E``, the signs and the inactive subgradient, each least
    squares coefficient in the model ``E`` has a law that is known up to its parameter: intervals and tests invert it,
    and are valid although the data chose the model. There is no intercept: subtract the means of ``X`` and ``y`` first.

    Args:
        X: Design ``(n, p)``.
        y: Response ``(n,)``.
        penalty: 0.7 times ``E max_j |X_j^T e|``, ``e ~ N(0, sigma^2 I)``, if None.
        noise_scale: A quarter of ``sd(y) sqrt(mean_j |X_j|^2)`` if None. More noise selects worse and infers better.
        ridge: ``mean_j |X_j|^2 / n`` if None: 1 for standardised columns.
        sigma: Standard deviation of the errors; from the residuals of the full least squares model if None.
        levels: Levels of the intervals, each in (0, 1).
        method: ``"exact"`` by quadrature and Gaussian orthant probabilities, for up to some twenty selected columns;
            ``"sampler"`` from draws on the orthant, for any number.
        sampler: ``sampler(density, n, generator)``, draws ``(n, k)`` of a ``TruncatedNormal`` on ``Orthant(k)``.
        num_samples: Draws of the first batch; batches are added where they are needed, see ``sampled``.
        tolerance: Monte Carlo standard error of ends that is asked for, as a share of the width of the interval.
        generator: Source of randomness, also of ``w``.

    Returns:
        A ``SelectiveInference``, with nothing in it if nothing was selected.

    Raises:
        ShapeError: If shapes do not fit.
        DomainError: If data are not finite, a column is constant, selected columns are collinear, or a number is out
            of range.

    Source: Tian, Taylor, "Selective inference with a randomized response", 2018; Shi, Liu, Mackey, "Sampling with
    mirrored Stein operators", 2022, section 5.2.
    """
    if method not in ("exact", "sampler"):
        raise DomainError(f'method must be "exact" or "sampler", got {method!r}')
    if not levels or not all(0 < level < 1 for level in levels) or num_samples < 1 or not tolerance > 0:
        raise DomainError(
            "randomized_lasso needs levels in (0, 1), num_samples >= 1 and tolerance > 0, got "
            f"{tuple(levels)}, {num_samples} and {tolerance}"
        )
    design, response = _array(X), _array(y)
    check_design(design, response)
    sigma = _sigma(design, response) if sigma is None else sigma
    size = float(np.square(design).sum(0).mean())
    noise_scale = 0.25 * float(response.std(ddof=1)) * size**0.5 if noise_scale is None else noise_scale
    if not (0 < sigma < np.inf and 0 < noise_scale < np.inf):
        raise DomainError(f"sigma and noise_scale must be positive and finite, got {sigma} and {noise_scale}")
    penalty = theoretical_penalty(design, sigma) if penalty is None else penalty
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    noise = torch.randn(design.shape[1], generator=generator, dtype=torch.float64).numpy() * noise_scale
    fit = solve_lasso(design, response, noise, penalty, size / len(design) if ridge is None else ridge)

    def infer(law: SelectiveLaw) -> _Target:
        if method == "exact":
            pivot = ExactPivot(law, tail=(1 - max(levels)) / 4)
            return _invert(pivot, levels, RootFinder(pivot))
        sampled = refine(
            law,
            lambda pivot: _matter(pivot, levels),
            lambda theta, size: draw_intervals(law, theta, sampler, size, generator),
            num_samples,
            tolerance,
        )
        # Far below the Monte Carlo error.
        return _invert(sampled, levels, RootFinder(sampled, 1e-3 * tolerance))

    targets = [infer(law) for law in selective_laws(fit, sigma, noise_scale)]
    found = _collect(targets, fit, levels, {"sigma": sigma, "noise_scale": noise_scale, "method": method})
    _warn(found, tolerance)
    return found


def _warn(found: SelectiveInference, tolerance: float) -> None:
    """Say so if ends are missing or less certain than was asked for."""
    missing = found.selected[~found.bracketed.all(-1).all(0)].tolist()
    if missing:
        warnings.warn(
            f"intervals of columns {missing} have infinite ends, because no parameter has the pivot asked for; with "
            'method="sampler" the sampler may not have converged, compare with method="exact"',
            SamplingWarning,
            stacklevel=3,
        )
        return
    ratio = found.monte_carlo_errors / found.intervals.diff(dim=-1)
    if ratio.numel() and float(ratio.max()) > 2 * tolerance:
        warnings.warn(
            f"the Monte Carlo error of an end is {float(ratio.max()):.2g} of the width; raise num_samples",
            SamplingWarning,
            stacklevel=3,
        )


def _array(value: Tensor | ArrayLike) -> Array:
    return np.array(value.detach().cpu().numpy() if isinstance(value, Tensor) else value, dtype=np.float64)


def _sigma(X: Array, y: Array) -> float:
    """The usual estimate from the residuals of all columns."""
    n, p = X.shape
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    if n <= p + 1 or np.linalg.norm(residual) <= 1e-10 * np.linalg.norm(y):
        raise DomainError(
            f"sigma cannot be estimated from {n} rows and {p} columns that fit y exactly; pass sigma=, for example "
            "from cross-validation"
        )
    return float(np.sqrt(residual @ residual / (n - p)))


def _matter(pivot: SampledPivot, levels: Sequence[float]) -> list[tuple[float, float]]:
    """Ends of the widest and narrowest intervals that exist, with their widths."""
    roots = RootFinder(pivot, 1e-3)
    found: list[tuple[float, float]] = []
    for level in {max(levels), min(levels)}:
        low, high = (roots.find(0.5 + sign * level / 2).value for sign in (1, -1))
        found += [(end, high - low) for end in (low, high) if np.isfinite(high - low)]
    return found


def _invert(pivot: ExactPivot | SampledPivot, levels: Sequence[float], roots: RootFinder) -> _Target:
    at_zero = min(max(pivot(0.0), 0.0), 1.0)
    ends = [[roots.find(0.5 + level / 2), roots.find(0.5 - level / 2)] for level in levels]
    exact = [[(np.inf, 0.0)] * 2 for _ in levels]
    checks = exact if isinstance(pivot, ExactPivot) else [[_check(pivot, end) for end in pair] for pair in ends]
    return _Target(pivot.law, roots.find(0.5).value, 2 * min(at_zero, 1 - at_zero), ends, checks)


def _check(pivot: SampledPivot, end: End) -> tuple[float, float]:
    """Effective draws and Monte Carlo error at an end."""
    return (pivot.effective_size(end.value), pivot.end_error(end.value)) if end.found else (0.0, np.inf)


def _collect(
    targets: list[_Target], fit: LassoFit, levels: Sequence[float], facts: dict[str, Any]
) -> SelectiveInference:
    def tensor(values: list[Any], *shape: int) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).reshape(len(targets), *shape)

    pair = (len(levels), 2)
    return SelectiveInference(
        selected=torch.from_numpy(fit.selected),
        estimates=tensor([t.estimate for t in targets]),
        least_squares=tensor([t.law.estimate for t in targets]),
        standard_errors=tensor([t.law.standard_error for t in targets]),
        p_values=tensor([t.p_value for t in targets]),
        levels=torch.tensor(list(levels), dtype=torch.float64),
        intervals=tensor([[[e.value for e in p] for p in t.ends] for t in targets], *pair).transpose(0, 1),
        bracketed=tensor([[[e.found for e in p] for p in t.ends] for t in targets], *pair).transpose(0, 1).bool(),
        effective_sizes=tensor([t.checks for t in targets], *pair, 2).transpose(0, 1)[..., 0],
        monte_carlo_errors=tensor([t.checks for t in targets], *pair, 2).transpose(0, 1)[..., 1],
        fit=fit,
        **facts,
    )
