"""The catalogue for timing: every map with the bare tensor operations that it cannot do without."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mirrorgen import domains, mirror_maps
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.nets import InputConvexMLP
from mirrorgen.numerics import softplus

Bare = Callable[[Tensor], object]


@dataclass(frozen=True)
class Case:
    """A map and its yardsticks.

    Attributes:
        build: The map in a given number of coordinates.
        to_dual: Bare operations behind ``to_dual``, on points.
        to_primal: Bare operations behind ``to_primal``, on dual points.
        log_det: Bare operations behind ``log_det_jacobian``, on points.
        words: The three in words.
        admissible: Makes dual points of the map out of any.
        iterative: Whether the inverse iterates; its yardstick is then one iteration, and fewer points are timed.
    """

    build: Callable[[int], MirrorMap]
    to_dual: Bare
    to_primal: Bare
    log_det: Bare
    words: tuple[str, str, str]
    admissible: Bare = lambda y: y
    iterative: bool = False


def polytope(dim: int, rows: int) -> domains.Polytope:
    """A bounded polytope with random facets at distances between 1 and 2 from the origin."""
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    normals = normals / normals.norm(dim=-1, keepdim=True)
    return domains.Polytope(normals, 1 + torch.rand(rows, generator=generator, dtype=torch.float64))


@lru_cache
def facets(dim: int) -> domains.Polytope:
    """Four facets per dimension: 40 in ten dimensions."""
    return polytope(dim, 4 * dim)


def newton_step(y: Tensor) -> Tensor:
    """``A^T W A``, Cholesky and solve, the linear algebra of one Newton step, in float64."""
    rows, bounds = facets(y.shape[-1]).halfspaces()
    y = y.double()
    weight = (1 + y[..., :1].square()) * bounds
    factor, _ = torch.linalg.cholesky_ex((rows.mT * weight.unsqueeze(-2)) @ rows)
    return torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)


def slack_gradient(power: Bare) -> Bare:
    """``A^T power(b - A x)`` in float64."""

    def gradient(x: Tensor) -> Tensor:
        rows, bounds = facets(x.shape[-1]).halfspaces()
        return power(bounds - x.double() @ rows.mT) @ rows

    return gradient


def slack_log_det(x: Tensor) -> Tensor:
    """Slacks, ``A^T W A``, Cholesky and the logarithm of its diagonal, in float64."""
    rows, bounds = facets(x.shape[-1]).halfspaces()
    weight = (bounds - x.double() @ rows.mT).square().reciprocal()
    factor, _ = torch.linalg.cholesky_ex((rows.mT * weight.unsqueeze(-2)) @ rows)
    return torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)


def box_equation(y: Tensor) -> Tensor:
    """The logarithms and exponentials in one evaluation of the equation of a box, in float64."""
    sigma = -y.double().square()
    other = torch.log(2 - torch.exp(sigma))
    return torch.exp(-sigma) - torch.exp(-other) + torch.exp(sigma - other)


def ball_equation(y: Tensor) -> Tensor:
    """The exponentials in one evaluation of the radial equation of a ball, in float64."""
    sigma = -y.double().square().sum(-1)
    return torch.exp(sigma) + torch.exp(-0.3 * sigma) + torch.exp(-1.3 * sigma)


def log_sum(x: Tensor) -> Tensor:
    """``sum log x``."""
    return x.log().sum(-1)


def scaled(x: Tensor) -> Tensor:
    """``x / sqrt(1 + |x|^2)``."""
    return x * torch.rsqrt(1 + x.square().sum(-1, keepdim=True))


def norm_log(x: Tensor) -> Tensor:
    """``log(1 - |x|^2)``."""
    return torch.log1p(-x.square().sum(-1))


def matrices(x: Tensor) -> Tensor:
    """Well-conditioned positive definite matrices made of vectors of length ``n (n + 1) / 2``, in float64."""
    n = round((2 * x.shape[-1] + 0.25) ** 0.5 - 0.5)
    return torch.eye(n, dtype=torch.float64) + x[..., :1, None].double().square()


def cholesky_inverse(x: Tensor) -> Tensor:
    """Cholesky factor and inverse."""
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(matrices(x))[0])


def spectral(x: Tensor) -> Tensor:
    """Eigenvectors, logarithms of eigenvalues, and the product."""
    values, vectors = torch.linalg.eigh(matrices(x))
    return (vectors * values.log().unsqueeze(-2)) @ vectors.mT


def cholesky_log(x: Tensor) -> Tensor:
    """Cholesky factor and the logarithm of its diagonal."""
    return torch.diagonal(torch.linalg.cholesky_ex(matrices(x))[0], dim1=-2, dim2=-1).log().sum(-1)


def _psd(dim: int) -> domains.PSD:
    return domains.PSD(round((2 * dim + 0.25) ** 0.5 - 0.5))


def _box(dim: int) -> domains.Box:
    return domains.Box(-1.0, 1.0, dim=dim)


def _logits(x: Tensor) -> Tensor:
    return torch.log(1 + x) - torch.log(1 - x)


def _negative(y: Tensor) -> Tensor:
    return -(y.abs() + 0.1)


def _negative_definite(y: Tensor) -> Tensor:
    return -mirror_maps.VonNeumann(_psd(y.shape[-1])).to_primal(0.25 * y)


def _factors(dim: int) -> tuple[MirrorMap, MirrorMap]:
    return mirror_maps.BoxEntropy(_box(dim // 2)), mirror_maps.NegEntropy(domains.Orthant(dim - dim // 2))


@lru_cache
def _factors_once(dim: int) -> tuple[MirrorMap, MirrorMap]:
    return _factors(dim)


def _separately(operation: str) -> Bare:
    def call(argument: Tensor) -> Tensor:
        dim = argument.shape[-1]
        first, second = (getattr(m, operation) for m in _factors_once(dim))
        return first(argument[..., : dim // 2]), second(argument[..., dim // 2 :])

    return call


def _box_logs(x: Tensor) -> Tensor:
    return log_sum(1 / (1 + x) + 1 / (1 - x))


D, M = domains, mirror_maps

CASES: dict[str, Case] = {
    "Quadratic": Case(
        lambda d: M.Quadratic(D.Euclidean(d)), lambda x: x * 1, lambda y: y / 1, log_sum,
        ("multiply", "divide", "log, sum")),
    "PNorm": Case(
        lambda d: M.PNorm(D.Euclidean(d), p=1.5),
        lambda x: x.sign() * x.abs() ** 0.5 * (x.abs() ** 1.5).sum(-1, keepdim=True) ** (1 / 3),
        lambda y: y * y.abs() * (y.abs() ** 3).sum(-1, keepdim=True) ** (-1 / 3), log_sum,
        ("sign, abs, 2 pow, sum", "abs, pow, sum, 2 multiply", "log, sum")),
    "Hypentropy": Case(
        lambda d: M.Hypentropy(D.Euclidean(d)), torch.asinh, torch.sinh,
        lambda x: torch.log(1 / torch.hypot(x, torch.ones_like(x))).sum(-1), ("asinh", "sinh", "hypot, log, sum")),
    "Exponential": Case(
        lambda d: M.Exponential(D.Euclidean(d)), torch.exp, torch.log, lambda x: x.sum(-1), ("exp", "log", "sum"),
        torch.abs),
    "NegEntropy": Case(
        lambda d: M.NegEntropy(D.Orthant(d)), torch.log, torch.exp, log_sum, ("log", "exp", "log, sum")),
    "BurgEntropy": Case(
        lambda d: M.BurgEntropy(D.Orthant(d)), lambda x: -1 / x, lambda y: -1 / y, log_sum,
        ("divide", "divide", "log, sum"), _negative),
    "SoftplusDual": Case(
        lambda d: M.SoftplusDual(D.Orthant(d)), lambda x: x + torch.log(-torch.expm1(-x)), softplus,
        lambda x: log_sum(-1 / torch.expm1(-x)), ("expm1, log, add", "logaddexp", "expm1, divide, log, sum")),
    "TsallisEntropy, orthant": Case(
        lambda d: M.TsallisEntropy(D.Orthant(d), q=0.5), lambda x: -2 * x**-0.5,
        lambda y: torch.exp(-2 * torch.log(-0.5 * y)), log_sum, ("pow", "log, exp", "log, sum"), _negative),
    "TsallisEntropy, simplex": Case(
        lambda d: M.TsallisEntropy(D.Simplex(d + 1), q=0.5), lambda x: -2 * x**-0.5,
        lambda y: (y.double() - y.double().amax(-1, keepdim=True) - 2) ** -2.0, log_sum,
        ("pow", "amax, pow in float64 (one iteration)", "log, sum"), iterative=True),
    "SimplexEntropy, ilr": Case(
        lambda d: M.SimplexEntropy(D.Simplex(d + 1)), torch.log, lambda y: torch.softmax(y, -1), log_sum,
        ("log", "softmax", "log, sum")),
    "SimplexEntropy, alr": Case(
        lambda d: M.SimplexEntropy(D.Simplex(d + 1), chart="alr"), torch.log, lambda y: torch.softmax(y, -1), log_sum,
        ("log", "softmax", "log, sum")),
    "BoxEntropy": Case(
        lambda d: M.BoxEntropy(_box(d)), _logits, lambda y: 2 * torch.sigmoid(y) - 1, _box_logs,
        ("2 log, 3 add", "sigmoid, multiply, add", "2 divide, log, sum")),
    "LogBarrier, box": Case(
        lambda d: M.LogBarrier(_box(d)), lambda x: 1 / (1 - x) - 1 / (1 + x), box_equation, _box_logs,
        ("2 divide", "5 exp or log in float64 (one iteration)", "2 divide, log, sum"), iterative=True),
    "HellingerBall": Case(
        lambda d: M.HellingerBall(D.Ball(d)), scaled, scaled, norm_log,
        ("square, sum, rsqrt, multiply", "square, sum, rsqrt, multiply", "square, sum, log1p")),
    "BallLogBarrier": Case(
        lambda d: M.BallLogBarrier(D.Ball(d)), scaled, scaled, norm_log,
        ("square, sum, rsqrt, multiply", "square, sum, rsqrt, multiply", "square, sum, log1p")),
    "RegularizedBarrier, ball": Case(
        lambda d: M.RegularizedBarrier(D.Ball(d), kappa=0.3), scaled,
        ball_equation, norm_log,
        ("square, sum, rsqrt, multiply", "square, sum, 3 exp in float64 (one iteration)", "square, sum, log1p"),
        iterative=True),
    "LogBarrier, polytope": Case(
        lambda d: M.LogBarrier(facets(d)), slack_gradient(torch.reciprocal), newton_step, slack_log_det,
        ("2 matmul, divide in float64", "A^T W A, Cholesky, solve in float64 (one iteration)",
         "matmul, A^T W A, Cholesky in float64"), iterative=True),
    "SlackEntropy, polytope": Case(
        lambda d: M.SlackEntropy(facets(d)), slack_gradient(torch.log), newton_step, slack_log_det,
        ("2 matmul, log in float64", "A^T W A, Cholesky, solve in float64 (one iteration)",
         "matmul, A^T W A, Cholesky in float64"), iterative=True),
    "RegularizedBarrier, polytope": Case(
        lambda d: M.RegularizedBarrier(facets(d), kappa=0.3), slack_gradient(lambda s: s**-0.3), newton_step,
        slack_log_det,
        ("2 matmul, pow in float64", "A^T W A, Cholesky, solve in float64 (one iteration)",
         "matmul, A^T W A, Cholesky in float64"), iterative=True),
    "LearnedMirrorMap, polytope": Case(
        lambda d: M.LearnedMirrorMap(M.RegularizedBarrier(facets(d), kappa=0.3), InputConvexMLP(d, [32, 32])),
        slack_gradient(lambda s: s**-0.3), newton_step, slack_log_det,
        ("those of its base, without the network",) * 3, iterative=True),
    "LogDet": Case(
        lambda d: M.LogDet(_psd(d)), cholesky_inverse, cholesky_inverse, cholesky_log,
        ("Cholesky, inverse in float64",) * 2 + ("Cholesky, log, sum in float64",), _negative_definite, iterative=True),
    "VonNeumann": Case(
        lambda d: M.VonNeumann(_psd(d)), spectral, spectral, cholesky_log,
        ("eigh, log, matmul in float64",) * 2 + ("Cholesky, log, sum in float64",), iterative=True),
    "ProductMap": Case(
        lambda d: M.ProductMap(*_factors(d)), _separately("to_dual"), _separately("to_primal"),
        _separately("log_det_jacobian"), ("its two factors, separately",) * 3),
}  # fmt: skip
