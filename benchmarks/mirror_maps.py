"""Throughput of every map against the bare tensor operations that it needs, with and without value checks."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import CASES, Case
from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import validation
from mirrorgen.geometry.mirror_maps.base import MirrorMap

TITLE = "Mirror maps against their bare operations"
NOTES = (
    "ratio: seconds over those of the bare operations named in remark, timed in turn; where remark says one iteration, "
    "the ratio counts iterations",
    "checked: with value checks (the default); unchecked: within mirrorgen.validation(False)",
    "error of to_dual and to_primal: largest |to_primal(to_dual(x)) - x| / (1 + |x|); of log_det: from the point "
    "against from its dual point, relative to 1 + |log det|",
    "feasible: share of to_primal(y) strictly inside, for dual points 30 times as far out as those timed",
)


def points(case: Case, mirror_map: MirrorMap, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Dual points, normal of scale 2 before they are made admissible, and their primal points."""
    generator = torch.Generator().manual_seed(1)
    y = case.admissible(2 * torch.randn(n, mirror_map.domain.dual_dim, generator=generator, dtype=dtype))
    return y, mirror_map.to_primal(y)


def correctness(mirror_map: MirrorMap, y: Tensor, x: Tensor) -> tuple[float, float, float]:
    """Round-trip error, error of the log-determinant, feasible share far out."""
    dual = mirror_map.to_dual(x)
    round_trip = ((mirror_map.to_primal(dual) - x).abs() / (1 + x.abs())).max()
    log_det = mirror_map.log_det_jacobian(x)
    log_det_error = ((mirror_map.log_det_jacobian_dual(dual) - log_det).abs() / (1 + log_det.abs())).max()
    feasible = mirror_map.domain.contains(mirror_map.to_primal(30 * y)).double().mean()
    return float(round_trip), float(log_det_error), float(feasible)


def unchecked(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function without value checks."""

    def call(argument: Tensor) -> Tensor:
        with validation(False):
            return function(argument)

    return call


def rows_of(name: str, case: Case, n: int, dim: int, dtype: torch.dtype) -> list[Row]:
    """Three operations of one map in one dtype, each checked and unchecked."""
    mirror_map = case.build(dim)
    y, x = points(case, mirror_map, n, dtype)
    round_trip, log_det_error, feasible = correctness(mirror_map, y, x)
    operations = (
        ("to_dual", mirror_map.to_dual, case.to_dual, x, round_trip, None),
        ("to_primal", mirror_map.to_primal, case.to_primal, y, round_trip, feasible),
        ("log_det", mirror_map.log_det_jacobian, case.log_det, x, log_det_error, None),
    )
    rows = []
    for (operation, function, bare, argument, error, share), words in zip(operations, case.words, strict=True):
        contenders = {"bare": bare, "checked": function, "unchecked": unchecked(function)}
        seconds = interleaved({k: lambda f=f, a=argument: f(a) for k, f in contenders.items()})
        shape = "x".join(map(str, argument.shape))
        rows += [
            Row(name, operation, kind, str(dtype).removeprefix("torch."), shape, seconds[kind],
                seconds[kind] / seconds["bare"], error, share, words)
            for kind in ("checked", "unchecked")
        ]  # fmt: skip
    return rows


@torch.no_grad()
def run(quick: bool = False) -> list[Row]:
    """Closed forms on 10,000 points in ten coordinates, iterative inverses on 1,024.

    Tensors of many megabytes would time page faults of the allocator rather than the maps.
    """
    rows = []
    for name, case in CASES.items():
        n = 16 if quick else 1024 if case.iterative else 10_000
        for dtype in (torch.float32, torch.float64):
            rows += rows_of(name, case, n, 3 if quick else 10, dtype)
    return rows
