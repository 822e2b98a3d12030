"""The one list of sampler instances; a new kernel adds one line."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen import targets as T


@dataclass(frozen=True)
class Case:
    """A kernel with the law it should leave invariant.

    Attributes:
        kernel: Tuned so that most proposals are accepted and one step moves noticeably.
        target: With exact draws, mean and variance.
        exact: Whether the law is invariant exactly (adjusted kernels, Gibbs); unadjusted kernels are biased.
        build: The same kernel for another log-density, to test NaN; None if the kernel takes none.
    """

    kernel: S.Kernel
    target: T.Target
    exact: bool = True
    build: Callable[[Callable], S.Kernel] | None = None


def _hmc_simplex() -> Case:
    target = T.Dirichlet([0.5, 2.0, 3.0])
    build = lambda f: S.MirroredHMC(f, M.SimplexEntropy(target.domain), step_size=0.4, num_steps=3)  # noqa: E731
    return Case(build(target), target, build=build)


def _hmc_scaled() -> Case:
    target = T.Dirichlet([2.0, 2.0, 3.0])
    scale = torch.tensor([[0.7, 0.0], [0.1, 0.6]])
    build = lambda f: S.MirroredHMC(f, M.SimplexEntropy(target.domain, chart="alr"), 0.5, 3, scale=scale)  # noqa: E731
    return Case(build(target), target, build=build)


def _langevin(make: Callable[..., S.Kernel], exact: bool = True) -> Callable[[], Case]:
    """A kernel ``make(log_density, simplex)`` for a Dirichlet law."""
    target = T.Dirichlet([2.0, 3.0, 4.0])

    def case() -> Case:
        build = lambda f: make(f, target.domain)  # noqa: E731
        return Case(build(target), target, exact, build)

    return case


LANGEVIN = {
    "mirrored_langevin": _langevin(lambda f, d: S.MirroredLangevin(f, M.SimplexEntropy(d), 0.2)),
    "mirrored_langevin_unadjusted": _langevin(
        lambda f, d: S.MirroredLangevin(f, M.SimplexEntropy(d), 0.1, adjusted=False), exact=False
    ),
    "mirror_langevin": _langevin(lambda f, d: S.MirrorLangevin(f, M.LogBarrier(d), 0.05)),
    "mirror_langevin_entropic": _langevin(lambda f, d: S.MirrorLangevin(f, M.SimplexEntropy(d, chart="alr"), 0.03)),
    "mirror_langevin_unadjusted": _langevin(
        lambda f, d: S.MirrorLangevin(f, M.LogBarrier(d), 0.02, adjusted=False), exact=False
    ),
    "mirror_langevin_forward": _langevin(
        lambda f, d: S.MirrorLangevin(f, M.LogBarrier(d), 0.02, False, "forward", inner_steps=2), exact=False
    ),
    "mirror_random_walk": _langevin(lambda f, d: S.MirrorLangevin(f, M.LogBarrier(d), 0.05, drift=False)),
    "mapla": _langevin(lambda f, d: S.MAPLA(f, d, 0.05)),
    "mapla_entropic": _langevin(lambda f, d: S.MAPLA(f, M.SimplexEntropy(d, chart="alr"), 0.02)),
    "dikin_walk": _langevin(lambda f, d: S.DikinWalk(f, d, 0.5)),
}


def _walk(make: Callable[[Callable | None, D.Domain], S.Kernel], target: T.Target) -> Callable[[], Case]:
    """A walk on a polyhedron; uniform ones take no log-density."""
    build = None if isinstance(target, T.Uniform) else lambda f: make(f, target.domain)
    return lambda: Case(make(target, target.domain), target, build=build)


NORMAL = T.TruncatedNormal(D.Box(0.0, 2.0, dim=2), [0.5, -6.0], [1.0, 4.0])
FLAT, SLOPED = T.Uniform(D.Simplex(4)), T.Dirichlet([2.0, 1.5, 3.0])
WALKS: dict[str, Callable[[], Case]] = {
    "hit_and_run": _walk(S.HitAndRun, FLAT),
    "hit_and_run_slices": _walk(lambda f, d: S.HitAndRun(f, d, moves=2), SLOPED),
    "coordinate_hit_and_run": _walk(S.CoordinateHitAndRun, FLAT),
    "coordinate_hit_and_run_box": _walk(S.CoordinateHitAndRun, T.Uniform(D.Box([0.0, -1.0], [0.1, 3.0]))),
    "coordinate_hit_and_run_slices": _walk(S.CoordinateHitAndRun, SLOPED),
    "billiard_walk": _walk(S.BilliardWalk, FLAT),
    "truncated_gaussian_gibbs": lambda: Case(S.TruncatedGaussianGibbs(NORMAL), NORMAL),
    "linear_elliptical_slice": lambda: Case(S.LinearEllipticalSlice(NORMAL, moves=2), NORMAL),
    "billiard_walk_adjusted": _walk(lambda f, d: S.BilliardWalk(f, d, mean_length=0.5), SLOPED),
}


def _laplace(make: Callable[..., S.Kernel], exact: bool) -> Callable[[], Case]:
    """A kernel ``make(smooth, target)`` for a composite law."""
    target = T.AnisotropicLaplace([1.0, 2.0, 4.0])
    build = lambda f: make(f, target)  # noqa: E731
    return lambda: Case(build(target.smooth), target, exact, build)


def _smoothed(f: Callable, target: T.AnisotropicLaplace, **options: object) -> S.Kernel:
    return S.BregmanMoreauLangevin(f, M.Hypentropy(target.domain), 0.03, nonsmooth=target.nonsmooth, **options)


PROXIMAL = {
    "bregman_moreau": _laplace(lambda f, t: _smoothed(f, t, envelope_map=M.Quadratic(t.domain), smoothing=0.5), True),
    "bregman_moreau_right": _laplace(lambda f, t: _smoothed(f, t, side="right", smoothing=0.1), True),
    "bregman_moreau_unadjusted": _laplace(lambda f, t: _smoothed(f, t, adjusted=False), False),
    "myula": _laplace(lambda f, t: S.MYULA(f, t.domain, 0.01, nonsmooth=t.nonsmooth), False),
    "projected_langevin": _langevin(lambda f, d: S.ProjectedLangevin(f, d, 0.003), exact=False),
    "reflected_langevin": _langevin(lambda f, d: S.ReflectedLangevin(f, d, 0.003), exact=False),
}


def _particles(make: Callable[..., S.Kernel], target: T.Target | None = None) -> Callable[[], Case]:
    """Sets of one particle each, which interact with no other row; deterministic."""
    law = T.Dirichlet([2.0, 3.0, 4.0]) if target is None else target
    return lambda: Case(make(law, law.domain, set_size=1), law, exact=False)


SHARP, STILL = T.AnisotropicLaplace([1.0, 2.0, 4.0]), lambda x: torch.eye(x.shape[-1]).to(x).expand(*x.shape, -1)
STEIN = {
    "msvgd": _particles(lambda f, d, **o: S.MSVGD(f, M.SimplexEntropy(d), **o)),
    "msvgd_dual": _particles(lambda f, d, **o: S.MSVGD(f, M.SlackEntropy(d), space="dual", **o)),
    "svmd": _particles(lambda f, d, **o: S.SVMD(f, M.SimplexEntropy(d, chart="alr"), **o)),
    "projected_svgd": _particles(S.ProjectedSVGD),
    "svgd": _particles(S.SVGD, SHARP),
    "matrix_svgd": _particles(lambda f, d, **o: S.MatrixSVGD(f, d, STILL, **o), SHARP),
    "svng": _particles(lambda f, d, **o: S.SVNG(f, d, STILL, **o), SHARP),
}

KERNELS: dict[str, Callable[[], Case]] = {
    **STEIN,
    **PROXIMAL,
    **WALKS,
    **LANGEVIN,
    "mirrored_hmc": _hmc_simplex,
    "mirrored_hmc_scaled": _hmc_scaled,
}
