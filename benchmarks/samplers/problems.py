"""The laws of the study, with exact moments, and their closed forms in the dual for contenders written by hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from scipy import integrate, stats
from torch import Tensor

from benchmarks.cases import polytope
from mirrorgen import domains, mirror_maps
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.targets import Dirichlet, Target, TruncatedNormal, Uniform


@dataclass(frozen=True)
class Moments:
    """Means and variances of the coordinates, with the standard errors of the means (zeros where they are exact)."""

    mean: Tensor
    variance: Tensor
    mean_error: Tensor


@dataclass(frozen=True)
class Problem:
    """A law and the settings that all contenders with a fixed number of leapfrog steps share.

    Attributes:
        name: In the table.
        target: Its log-density and domain.
        mirror_map: The map whose dual holds the chains of gradient-based contenders.
        moments: The truth.
        step_size: Leapfrog step in that dual, found with other seeds than those of the study.
        num_steps: Leapfrog steps per draw.
        chains: Numbers of chains of the contenders that run many side by side.
        full: Whether all dtypes and modes are compared, or only the main ones.
        effort: Share of the usual draws and steps of warm-up.
    """

    name: str
    target: Target
    mirror_map: MirrorMap
    moments: Callable[[], Moments]
    step_size: float
    num_steps: int
    chains: tuple[int, ...] = (256,)
    full: bool = False
    effort: float = 1.0

    @property
    def closed(self) -> bool:
        """Whether the law of the dual point has a closed form without iteration: simplices and boxes."""
        return isinstance(self.target.domain, domains.Simplex | domains.Box)

    @property
    def uniform(self) -> bool:
        """Whether the density is constant."""
        target = self.target
        return isinstance(target, Uniform) or (
            isinstance(target, Dirichlet) and bool((target.concentration == 1).all())
        )


def exact(target: Target) -> Callable[[], Moments]:
    """The moments that the target knows."""
    return lambda: Moments(target.mean, target.variance, torch.zeros_like(target.mean))


def dirichlet(
    name: str, concentration: list[float], step_size: float, num_steps: int, chains: tuple[int, ...] = (256,),
    full: bool = False,
) -> Problem:  # fmt: skip
    target = Dirichlet(concentration)
    entropy = mirror_maps.SimplexEntropy(target.domain)
    return Problem(name, target, entropy, exact(target), step_size, num_steps, chains, full)


def cube(dim: int, step_size: float, num_steps: int, chains: tuple[int, ...] = (256,), full: bool = False) -> Problem:
    target = Uniform(domains.Box(-1.0, 1.0, dim=dim))
    entropy = mirror_maps.BoxEntropy(target.domain)
    return Problem(f"uniform {dim}-cube", target, entropy, exact(target), step_size, num_steps, chains, full)


def truncated_normal(dim: int, step_size: float, num_steps: int, correlation: float = 0.5) -> Problem:
    """Standard normal coordinates of equal correlation, restricted to ``[0, 2]^dim``."""
    covariance = torch.full((dim, dim), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    target = TruncatedNormal(domains.Box(0.0, 2.0, dim=dim), 0.0, covariance)
    entropy = mirror_maps.BoxEntropy(target.domain)
    name = f"correlated normal in a {dim}-cube"
    return Problem(name, target, entropy, lambda: equicorrelated(dim, correlation), step_size, num_steps)


@cache
def equicorrelated(dim: int, correlation: float) -> Moments:
    """Exact: given the common factor ``z`` the coordinates are independent, so one integral over ``z`` is left."""
    spread = math.sqrt(1 - correlation)

    def conditional(z: float) -> tuple[float, float, float]:
        location = math.sqrt(correlation) * z
        low, high = -location / spread, (2 - location) / spread
        mass = stats.norm.cdf(high) - stats.norm.cdf(low)
        mean, variance = stats.truncnorm.stats(low, high, loc=location, scale=spread)
        return float(mass), float(mean), float(variance + mean**2)

    def weight(z: float) -> float:
        return stats.norm.pdf(z) * conditional(z)[0] ** dim

    def integral(factor: Callable[[float], float]) -> float:
        grid = torch.linspace(-4.0, 8.0, 601, dtype=torch.float64)
        return float(integrate.simpson([weight(float(z)) * factor(float(z)) for z in grid], x=grid))

    total = integral(lambda z: 1.0)
    mean = integral(lambda z: conditional(z)[1]) / total
    variance = integral(lambda z: conditional(z)[2]) / total - mean**2
    ones = torch.ones(dim, dtype=torch.float64)
    return Moments(mean * ones, variance * ones, 0 * ones)


def rotation(dim: int) -> Tensor:
    """A random orthogonal matrix."""
    noise = torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim), dtype=torch.float64)
    return torch.linalg.qr(noise).Q


def widths(dim: int) -> Tensor:
    """From 1 to ``e^(dim / 4)`` in equal ratios."""
    return torch.exp(torch.linspace(0.0, dim / 4, dim, dtype=torch.float64))


def rotated_box(dim: int, step_size: float, num_steps: int, chains: tuple[int, ...] = (256,)) -> Problem:
    """The uniform law of a rotated box whose longest side is ``e^(dim / 4)`` times its shortest."""
    turn, half = rotation(dim), widths(dim)
    target = Uniform(domains.Polytope(torch.cat([turn.mT, -turn.mT]), torch.cat([half, half])))
    variance = (turn.square() * (half.square() / 3)).sum(-1)
    moments = Moments(torch.zeros_like(half), variance, torch.zeros_like(half))
    slack = mirror_maps.SlackEntropy(target.domain, on_failure="nan")
    return Problem(f"rotated box d={dim}", target, slack, lambda: moments, step_size, num_steps, chains)


def thin_polytope(dim: int, step_size: float, num_steps: int, chains: tuple[int, ...] = (64,)) -> Problem:
    """A random polytope stretched by up to ``e^(dim / 4)`` along random directions."""
    well_rounded = polytope(dim, 4 * dim)
    stretch = rotation(dim) * widths(dim)
    rows, bounds = well_rounded.halfspaces()
    target = Uniform(domains.Polytope(torch.linalg.solve(stretch.mT, rows.mT).mT, bounds))

    @cache
    def moments() -> Moments:
        # Independent draws from the well-rounded polytope, which no contender of the study produced.
        x = well_rounded.sample_uniform(100_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        x = x @ stretch.mT
        return Moments(x.mean(0), x.var(0), x.std(0) / math.sqrt(len(x)))

    slack = mirror_maps.SlackEntropy(target.domain, on_failure="nan")
    return Problem(f"thin polytope d={dim}", target, slack, moments, step_size, num_steps, chains)


BIRKHOFF = {4: 0.02976, 8: 0.01034}
"""Variance of an entry of a uniform doubly stochastic matrix: long runs of coordinate hit-and-run, 0.029755(10)
and 0.010338(4); billiards of hopsy agree."""


def birkhoff(n: int, step_size: float, num_steps: int, chains: tuple[int, ...] = (64,)) -> Problem:
    target = Uniform(domains.Birkhoff(n))
    size = torch.ones(n * n, dtype=torch.float64)
    moments = Moments(size / n, BIRKHOFF[n] * size, 0 * size)
    slack = mirror_maps.SlackEntropy(target.domain, on_failure="nan")
    return Problem(f"uniform Birkhoff({n})", target, slack, lambda: moments, step_size, num_steps, chains)


def catalogue(quick: bool = False) -> list[Problem]:
    """The laws of the study; two tiny ones to check that everything runs."""
    if quick:
        tiny = [dirichlet("Dirichlet(4) K=4", [4.0] * 4, 0.3, 4, (8,), True), rotated_box(2, 0.9, 2, (8,))]
        return [replace(problem, effort=0.02) for problem in tiny]
    main = (4, 256, 1024)
    return [
        dirichlet("Dirichlet(4) K=21", [4.0] * 21, 0.28, 3, main, True),
        cube(50, 0.72, 4, main, True),
        dirichlet("Dirichlet(4) K=101", [4.0] * 101, 0.2, 4),
        dirichlet("sparse Dirichlet K=20", [90.0, 5.0, 5.0] + [0.1] * 17, 0.2, 64),
        cube(10, 0.72, 4),
        dirichlet("uniform simplex K=21", [1.0] * 21, 0.45, 4),
        truncated_normal(10, 0.55, 4),
        truncated_normal(50, 0.5, 4),
        birkhoff(4, 0.65, 4),
        birkhoff(8, 0.65, 4, (32,)),
        rotated_box(20, 0.72, 4, (64,)),
        thin_polytope(10, 0.35, 8),
    ]
