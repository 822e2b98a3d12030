"""Many parameters in one step: the numbers of the loop up to rounding, through everything that changes state."""

import copy
import io

import pytest
import torch
from torch import nn

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import L1Norm
from mirrorgen.geometry.domains import Box, Euclidean, Orthant, Simplex
from mirrorgen.geometry.mirror_maps import (
    BoxEntropy,
    BurgEntropy,
    Exponential,
    Hypentropy,
    NegEntropy,
    Quadratic,
    SimplexEntropy,
    SoftplusDual,
    TsallisEntropy,
)
from mirrorgen.optim import MirrorDescent
from mirrorgen.optim.rows import is_coordinatewise

DIM = 3
MAPS = [
    Quadratic(Euclidean(DIM)),
    Quadratic(Euclidean(DIM), [0.5, 1.0, 2.0]),
    Hypentropy(Euclidean(DIM)),
    NegEntropy(Orthant(DIM)),
    BurgEntropy(Orthant(DIM)),
    SoftplusDual(Orthant(DIM)),
    BoxEntropy(Box(-1.0, 2.0, dim=DIM)),
]
SHAPES = [(DIM,), (DIM,), (5, DIM), (2, 1, DIM), (4, DIM)]


def close(a, b):
    """Up to some units in the last place: elementary functions round a vector and its last few entries differently."""
    if not isinstance(a, torch.Tensor):
        return a == b
    return bool(((a - b).abs() <= 4 * torch.finfo(a.dtype).eps * b.abs().clamp_min(1.0)).all())


def points(mirror_map, dtype, shapes=SHAPES):
    generator, made = torch.Generator().manual_seed(0), []
    low, high = (0.2, 1.5) if isinstance(mirror_map.domain, Orthant) else (-0.9, 1.5)
    for shape in shapes:
        made.append(nn.Parameter(low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)))
    return made


def run(params, optimizer, steps, seed=1, skip=()):
    """Steps along drawn gradients that pull Burg's entropy inwards."""
    generator = torch.Generator().manual_seed(seed)
    for t in range(steps):
        for k, p in enumerate(params):
            gradient = torch.rand(p.shape, generator=generator, dtype=p.dtype)
            p.grad = None if (t, k) in skip else gradient
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "maximize": True}, {"optimistic": True, "momentum": 0.5}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mirror_map", MAPS, ids=lambda m: type(m).__name__)
def test_equals_the_loop(mirror_map, dtype, options):
    if isinstance(mirror_map, BurgEntropy):
        options = options | {"maximize": False}  # Ascent leaves its dual domain.
    both = []
    for foreach in (False, None):
        params = points(mirror_map, dtype)
        optimizer = MirrorDescent(params, 0.1, mirror_map, average="uniform", foreach=foreach, **options)
        assert optimizer.param_groups[0]["foreach"] == (foreach is None)
        # The third parameter comes late, the second is left out once.
        run(params, optimizer, 6, skip={(0, 2), (1, 2), (3, 1)})
        both.append((params, optimizer))
    (a, first), (b, second) = both
    for p, q in zip(a, b, strict=True):
        assert close(p, q)
        if type(mirror_map) is Quadratic:
            assert torch.equal(p, q)
        assert mirror_map.domain.contains(q.detach()).all()
        for name, value in first.state[p].items():
            assert close(value, second.state[q][name])


def test_mixed_precisions_and_groups():
    box, orthant = BoxEntropy(Box(-1.0, 2.0, dim=DIM)), NegEntropy(Orthant(2))
    found = []
    for foreach in (False, True):
        params = [*points(box, torch.float32), *points(box, torch.float64)]
        others = points(orthant, torch.float64, [(2,), (7, 2)])
        groups = [{"params": params, "mirror_map": box}, {"params": others, "mirror_map": orthant, "lr": 0.01}]
        optimizer = MirrorDescent(groups, 0.3, foreach=foreach)
        run([*params, *others], optimizer, 4)
        found.append([*params, *others])
    assert all(close(p, q) for p, q in zip(*found, strict=True))


def test_state_survives_files_copies_and_hands():
    def made(foreach):
        params = points(MAPS[-1], torch.float64)
        return params, MirrorDescent(params, 0.2, MAPS[-1], momentum=0.7, foreach=foreach)

    loop, rows = made(False), made(True)
    for params, optimizer in (loop, rows):
        run(params, optimizer, 3)
    buffer = io.BytesIO()
    torch.save(rows[1].state_dict(), buffer)
    buffer.seek(0)
    loaded = made(True)
    with torch.no_grad():
        for p, q in zip(loaded[0], rows[0], strict=True):
            p.copy_(q)
    loaded[1].load_state_dict(torch.load(buffer, weights_only=True))
    copied = copy.deepcopy(rows)
    runs = [loop, rows, loaded, copied]
    for params, optimizer in runs:
        run(params, optimizer, 3, seed=5)
        with torch.no_grad():
            params[1].fill_(0.4)
        optimizer.resync()
        run(params, optimizer, 2, seed=6)
    for params, optimizer in runs[1:]:
        assert all(close(p, q) for p, q in zip(params, loop[0], strict=True))
        assert all(close(y, z) for y, z in zip(optimizer.duals(), loop[1].duals(), strict=True))


def test_which_maps_it_is_for():
    assert is_coordinatewise(Exponential(Euclidean(2)))
    assert is_coordinatewise(MAPS[1])
    for mirror_map in (SimplexEntropy(Simplex(3)), Quadratic(Euclidean(2), [[1.0, 0.1], [0.1, 1.0]])):
        assert not is_coordinatewise(mirror_map)
    # Written for one coordinate at a time or not, a map that is not declared so takes the loop.
    assert not is_coordinatewise(TsallisEntropy(Simplex(3), q=0.5))
    two = [nn.Parameter(torch.full((3,), 1 / 3)) for _ in range(2)]
    assert not MirrorDescent(two, 0.1, SimplexEntropy(Simplex(3))).param_groups[0]["foreach"]
    assert not MirrorDescent(two[:1], 0.1, MAPS[0]).param_groups[0]["foreach"]
    with pytest.raises(DomainError, match="foreach"):
        MirrorDescent(two, 0.1, SimplexEntropy(Simplex(3)), foreach=True)
    with pytest.raises(DomainError, match="prox"):
        MirrorDescent(two, 0.1, MAPS[2], prox=L1Norm(0.1), foreach=True)
