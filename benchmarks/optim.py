"""Steps of mirror descent on many small parameters: all in one, one after another, and torch's own gradient descent."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains, mirror_maps
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.geometry.validation import validation
from mirrorgen.optim import MirrorDescent

TITLE = "Mirror descent on many small parameters"
NOTES = (
    "seconds: of one step of all parameters along given gradients, without values checked;"
    " ratio: over those of the loop over parameters, timed in turn",
    "error: largest difference to the loop after ten steps, over the largest entry;"
    " feasible: share of points strictly inside",
    "torch.optim.SGD: another method except for Quadratic, whose points it shares; it has no map to evaluate",
)
DIM, ROWS = 8, 4
MAPS: dict[str, Callable[[], MirrorMap]] = {
    "Quadratic": lambda: mirror_maps.Quadratic(domains.Euclidean(DIM)),
    "BoxEntropy": lambda: mirror_maps.BoxEntropy(domains.Box(0.0, 1.0, dim=DIM)),
    "NegEntropy": lambda: mirror_maps.NegEntropy(domains.Orthant(DIM)),
}
LOOP, ROWED, SGD, SGD_LOOP = "loop", "foreach", "torch.optim.SGD, foreach", "torch.optim.SGD, loop"


def parameters(count: int, dtype: torch.dtype) -> list[nn.Parameter]:
    """``(ROWS, DIM)`` each, between 0.1 and 0.9, with gradients."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2, count, ROWS, DIM, generator=generator, dtype=dtype)
    made = [nn.Parameter(0.1 + 0.8 * x) for x in drawn[0]]
    for p, gradient in zip(made, drawn[1], strict=True):
        p.grad = gradient - 0.5
    return made


def case(name: str, count: int, dtype: torch.dtype) -> list[Row]:
    """All contenders of one map."""
    mirror_map, made = MAPS[name](), {}
    for label in (LOOP, ROWED, SGD, SGD_LOOP):
        params, foreach = parameters(count, dtype), label in (ROWED, SGD)
        if label in (LOOP, ROWED):
            made[label] = params, MirrorDescent(params, 1e-3, mirror_map, foreach=foreach)
        else:
            made[label] = params, torch.optim.SGD(params, 1e-3, foreach=foreach)
    for _ in range(10):
        for _, optimizer in made.values():
            optimizer.step()
    ends = {label: torch.stack([p.detach() for p in params]) for label, (params, _) in made.items()}
    with validation(False):
        timed = interleaved({label: optimizer.step for label, (_, optimizer) in made.items()})
    rows = []
    for label, seconds in timed.items():
        mirrored = label in (LOOP, ROWED)
        compared = mirrored or name == "Quadratic"
        error = float((ends[label] - ends[LOOP]).abs().max() / ends[LOOP].abs().max()) if compared else None
        inside = float(_inside(mirror_map, ends[label])) if mirrored else None
        rows.append(
            Row(name, "step", label, str(dtype).removeprefix("torch."), f"{count} x ({ROWS}, {DIM})", seconds,
                seconds / timed[LOOP], error, inside, LOOP)
        )  # fmt: skip
    return rows


def _inside(mirror_map: MirrorMap, x: Tensor) -> Tensor:
    return mirror_map.domain.contains(x).double().mean()


def run(quick: bool = False) -> list[Row]:
    """Every map, in two numbers of parameters."""
    counts = (5,) if quick else (20, 500)
    return [row for name in MAPS for count in counts for row in case(name, count, torch.float32)]
