"""The heat kernel of a box: relative weights and few terms against the literal series of forty-two images."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains
from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.geometry.validation import validation

TITLE = "Heat kernel of the unit box: images and cosines in few terms against the literal series"
NOTES = (
    "literal: score by plain sums of 42 images, one after another; stacked: all at once, in 42 times the memory",
    "literal, clamped: exponents kept above -80, so that no exponential underflows, which is slow on processors",
    "literal, mixed sigma: 42 images for sigma up to 0.1414, 20 cosines above, every row by its own series, the"
    " yardstick there; all images: 42 images for every sigma",
    "ours: the public method with its checks; kernel: the evaluation alone, log-density and score",
    "ratio: seconds over those of the literal score on the same points, timed in turn; ours comes right after it and"
    " finds caches full of its arrays",
    "error of a score: difference over max(1/sigma, size); of a log-density per coordinate: over max(1, size);"
    " both against 42 images in float64 by log-sum-exp",
    "drawn: x from the law itself; any: x uniform, with pairs many sigma apart",
)


def images(x: Tensor, x_0: Tensor) -> list[Tensor]:
    """Displacements from the 42 images, twenty-one shifts and as many mirrors."""
    return [d for k in range(-10, 11) for d in (x - x_0 - 2 * k, x + x_0 - 2 * k)]


def literal(x: Tensor, x_0: Tensor, sigma: Tensor, least: float = -math.inf) -> Tensor:
    """The score by plain sums, one image after another."""
    rate, total, moment = -0.5 / sigma.square(), torch.zeros_like(x), torch.zeros_like(x)
    for d in images(x, x_0):
        weight = torch.exp((rate * d.square()).clamp_min(least) if least > -math.inf else rate * d.square())
        total, moment = total + weight, torch.addcmul(moment, weight, d)
    return 2 * rate * moment / (total + 1e-12)


def stacked(x: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
    """The score by plain sums, all images at once."""
    d = torch.stack(images(x, x_0))
    weight = torch.exp(-0.5 * (d / sigma).square())
    return -(weight * d).sum(0) / (weight.sum(0) + 1e-12) / sigma.square()


def waves(x: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
    """The score by plain sums of 20 cosines."""
    density, slope = torch.ones_like(x), torch.zeros_like(x)
    for n in (math.pi * n for n in range(1, 21)):
        weight = 2 * torch.exp(-0.5 * (n * sigma).square()) * torch.cos(n * x_0)
        density, slope = density + weight * torch.cos(n * x), slope - n * weight * torch.sin(n * x)
    return slope / (density + 1e-12)


def literal_mixed(x: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
    """Images for rows of small ``sigma``, cosines for the others."""
    small = sigma.squeeze(-1) <= 0.1414
    score = torch.empty_like(x)
    for series, rows in ((literal, small), (waves, ~small)):
        score[rows] = series(x[rows], x_0[rows], sigma[rows])
    return score


def exact(x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and score per coordinate in float64."""
    sigma = sigma.double()
    d = torch.stack(images(x.double(), x_0.double()))
    exponents = -0.5 * (d / sigma).square()
    score = -(torch.softmax(exponents, 0) * d).sum(0) / sigma.square()
    return torch.logsumexp(exponents, 0) - torch.log(sigma * math.sqrt(2 * math.pi)), score


def score_error(score: Tensor, reference: Tensor, sigma: Tensor) -> float:
    """Largest error over ``max(1 / sigma, size)``."""
    return float(((score - reference).abs() / torch.maximum(1 / sigma.double(), reference.abs())).max())


def log_error(kernel: BoxHeatKernel, x: Tensor, x_0: Tensor, sigma: Tensor, reference: Tensor) -> float:
    """Largest error of single coordinates over ``max(1, size)``."""
    single = BoxHeatKernel(domains.Box(0.0, 1.0))
    values = single.log_prob(x.unsqueeze(-1), x_0.unsqueeze(-1), sigma.expand_as(x))
    return float(((values - reference).abs() / reference.abs().clamp_min(1)).max())


def relative(seconds: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Seconds, and their ratio to those of the literal score."""
    return {label: (t, t / seconds["score, literal"]) for label, t in seconds.items()}


def case(name: str, drawn: bool, rows: int, dim: int, sigma: Tensor, groups: int) -> list[Row]:
    """All contenders on one batch in the dtype of ``sigma``, ``(rows, 1)``."""
    kernel = BoxHeatKernel(domains.Box(0.0, 1.0, dim=dim))
    generator = torch.Generator().manual_seed(0)
    x_0, x = (kernel.domain.sample_uniform(rows, generator=generator, dtype=sigma.dtype) for _ in range(2))
    flat, mixed = sigma.squeeze(-1), bool((sigma != sigma[0]).any())
    if drawn:
        x = kernel.sample(x_0, flat, generator=generator)
    series = literal_mixed if mixed else literal

    def alone() -> tuple[Tensor, Tensor]:
        return kernel._log_prob_and_score(x, x_0, sigma)

    def unchecked() -> Tensor:
        with validation(False):
            return kernel.score(x, x_0, flat)

    yardstick = {"score, literal": lambda: series(x, x_0, sigma)}
    functions: dict[str, Callable[[], object]] = {
        "score, ours": lambda: kernel.score(x, x_0, flat),
        "score, ours, unchecked": unchecked,
        "log_prob, ours": lambda: kernel.log_prob(x, x_0, flat),
        "both, ours": lambda: kernel.log_prob_and_score(x, x_0, flat),
        "both, kernel": alone,
    }
    if mixed:
        others: dict[str, Callable[[], Tensor]] = {"score, literal, all images": lambda: literal(x, x_0, sigma)}
    else:
        others = {
            "score, literal, clamped": lambda: literal(x, x_0, sigma, least=-80.0),
            "score, literal, stacked": lambda: stacked(x, x_0, sigma),
        }
    timed = relative(interleaved(functions | yardstick, groups, groups))
    # Apart: the memory that they take slows down whoever comes next.
    timed = relative(interleaved(others | yardstick, groups, groups)) | timed
    log_k, score = exact(x, x_0, sigma)
    errors = {"log_prob": log_error(kernel, x, x_0, sigma, log_k), "score": score_error(alone()[1], score, sigma)}
    errors["both"] = max(errors.values())
    known = {label: score_error(function(), score, sigma) for label, function in (others | yardstick).items()}
    result = []
    for label, (seconds, ratio) in timed.items():
        operation, contender = label.split(", ", 1)
        result.append(Row(f"{name}, {'drawn' if drawn else 'any'}", operation, contender, str(sigma.dtype)[6:],
                          f"{rows}x{dim}", seconds, ratio, known.get(label, errors[operation]), None,
                          "literal score"))  # fmt: skip
    return result


@torch.no_grad()
def run(quick: bool = False) -> list[Row]:
    """One deviation, and one per row as in training, on drawn and on arbitrary pairs."""
    batches = [(4, 48)] if quick else [(16, 3072), (128, 3072)]
    rows = []
    for n, dim in batches:
        groups = 1 if quick else 3 if n > 16 else 5
        one = torch.full((n, 1), 0.1)
        many = torch.logspace(math.log10(0.01), math.log10(1.5), n).unsqueeze(-1)
        rows += case("sigma 0.1", True, n, dim, one, groups)
        rows += case("sigma 0.01 to 1.5", True, n, dim, many, groups)
    n, dim = batches[0]
    rows += case("sigma 0.1", False, n, dim, torch.full((n, 1), 0.1), groups)
    return [*rows, *case("sigma 0.1", True, n, dim, torch.full((n, 1), 0.1, dtype=torch.float64), groups)]
