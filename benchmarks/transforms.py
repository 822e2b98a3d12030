"""Mirror maps against the transforms of torch.distributions and zuko that reach the same sets."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import zuko
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions import transforms as torch_transforms
from torch.distributions.transforms import Transform

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains, mirror_maps

TITLE = "Mirror maps against transforms of torch.distributions and zuko"
NOTES = (
    "ratio: seconds over those of the first contender of each group, ours, timed in turn: above 1 the peer is slower",
    "ours runs with its value checks, as by default; the peers have none in a transform",
    "error: largest |f^-1(f(y)) - y| / (1 + |y|) over normal dual points of scale 2",
    "feasible: share of f(y) strictly inside, for dual points 30 times as far out",
    "compiled: torch.compile with its default backend; value checks are off while compiling",
)


@dataclass(frozen=True)
class Group:
    """Transforms from all of space onto one set.

    Attributes:
        domain: The set in a given number of free coordinates.
        contenders: Transforms by name, ours first.
        remark: How the maps relate.
    """

    domain: Callable[[int], domains.Domain]
    contenders: Callable[[domains.Domain], dict[str, Transform]]
    remark: str


def _box(domain: domains.Box) -> dict[str, Transform]:
    return {
        "BoxEntropy": mirror_maps.BoxEntropy(domain).transform,
        "torch biject_to(interval)": biject_to(constraints.interval(-1.0, 1.0)),
        "torch TanhTransform": torch_transforms.TanhTransform(),
    }


def _interval(domain: domains.Ball) -> dict[str, Transform]:
    return {
        "BallLogBarrier": mirror_maps.BallLogBarrier(domain).transform,
        "HellingerBall": mirror_maps.HellingerBall(domain).transform,
        "zuko SoftclipTransform": zuko.transforms.SoftclipTransform(1.0),
    }


GROUPS = {
    "box, sigmoid": Group(
        lambda d: domains.Box(-1.0, 1.0, dim=d), _box, "the same map, tanh with another scale of the dual"
    ),
    "interval, heavy tails": Group(
        lambda d: domains.Ball(1), _interval, "softclip y / (1 + |y|) and BallLogBarrier both grow like 1 / slack"
    ),
    "orthant, exp": Group(
        domains.Orthant,
        lambda s: {
            "NegEntropy": mirror_maps.NegEntropy(s).transform,
            "torch ExpTransform": torch_transforms.ExpTransform(),
        },
        "the same map",
    ),
    "orthant, softplus": Group(
        domains.Orthant,
        lambda s: {
            "SoftplusDual": mirror_maps.SoftplusDual(s).transform,
            "torch SoftplusTransform": torch_transforms.SoftplusTransform(),
        },
        "the same map",
    ),
    "simplex": Group(
        lambda d: domains.Simplex(d + 1),
        lambda s: {
            "SimplexEntropy, ilr": mirror_maps.SimplexEntropy(s).transform,
            "SimplexEntropy, alr": mirror_maps.SimplexEntropy(s, chart="alr").transform,
            "torch biject_to(simplex)": biject_to(constraints.simplex),
        },
        "the same set; torch breaks sticks, one after the other",
    ),
}  # fmt: skip


def operations(transform: Transform, y: Tensor) -> dict[str, Callable[[], object]]:
    """Forward, inverse and log-determinant (summed over coordinates) of a transform at ``y``."""
    x = transform(y)

    def log_det() -> Tensor:
        value = transform.log_abs_det_jacobian(y, x)
        return value.sum(-1) if value.ndim == y.ndim else value

    return {"forward": lambda: transform(y), "inverse": lambda: transform.inv(x), "log_det": log_det}


def accuracy(transform: Transform, y: Tensor) -> float:
    """Round-trip error through the primal."""
    return _relative(transform.inv(transform(y)), y)


def _relative(value: Tensor, reference: Tensor) -> float:
    return float(((value - reference).abs() / (1 + reference.abs())).max())


def rows_of(name: str, group: Group, n: int, dim: int, dtype: torch.dtype) -> list[Row]:
    """Every operation of every contender in one dtype."""
    domain = group.domain(dim)
    n, dim = n * dim // domain.dual_dim, domain.dual_dim
    y = 2 * torch.randn(n, dim, generator=torch.Generator().manual_seed(2), dtype=dtype)
    contenders = group.contenders(domain)
    feasible = {k: float(domain.contains(t(30 * y)).double().mean()) for k, t in contenders.items()}
    errors = {k: accuracy(t, y) for k, t in contenders.items()}
    timed = {k: operations(t, y) for k, t in contenders.items()}
    rows = []
    for operation in ("forward", "inverse", "log_det"):
        seconds = interleaved({k: calls[operation] for k, calls in timed.items()})
        ours = next(iter(seconds.values()))
        rows += [
            Row(name, operation, k, str(dtype).removeprefix("torch."), f"{n}x{dim}", s, s / ours, errors[k],
                feasible[k] if operation == "forward" else None, group.remark)
            for k, s in seconds.items()
        ]  # fmt: skip
    return rows


def compiled_rows(n: int, dim: int) -> list[Row]:
    """The forward direction of the closed forms under ``torch.compile``, each group against its own first."""
    y = 2 * torch.randn(n, dim, generator=torch.Generator().manual_seed(2))
    rows = []
    for name in ("box, sigmoid", "orthant, exp", "orthant, softplus", "simplex"):
        group = GROUPS[name]
        # The lambda below is one code object; without this its specialisations count against one limit.
        torch.compiler.reset()
        domain = group.domain(dim)
        contenders = group.contenders(domain)
        functions = {k: torch.compile(lambda v, t=t: t(v), dynamic=False) for k, t in contenders.items()}
        errors = {k: _relative(f(y), contenders[k](y)) for k, f in functions.items()}
        seconds = interleaved({k: lambda f=f: f(y) for k, f in functions.items()})
        ours = next(iter(seconds.values()))
        rows += [
            Row(name, "forward, compiled", k, "float32", f"{n}x{dim}", s, s / ours, errors[k],
                float(domain.contains(functions[k](30 * y)).double().mean()), "error: against eager, relative")
            for k, s in seconds.items()
        ]  # fmt: skip
    return rows


@torch.no_grad()
def run(quick: bool = False) -> list[Row]:
    """10,000 points in ten coordinates, eager in both dtypes and compiled in float32."""
    n, dim = (16, 3) if quick else (10_000, 10)
    rows = []
    for name, group in GROUPS.items():
        for dtype in (torch.float32, torch.float64):
            rows += rows_of(name, group, n, dim, dtype)
    return rows if quick else rows + compiled_rows(n, dim)
