"""SiMPL: convex problems with known solutions, optimality, invariances, its promises at every step, bad input."""

from itertools import pairwise

import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.bregman import AffineSet, Indicator
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.mirror_maps import BoxEntropy
from mirrorgen.optim import LineSearchMirrorDescent, SiMPL

F64 = torch.float64
N = 24


def quadratic(seed=0):
    """A strictly convex quadratic whose minimum on the box with a volume has densities at both bounds."""
    generator = torch.Generator().manual_seed(seed)
    root, target = torch.randn(2, N, N, generator=generator, dtype=F64)
    H, shift = root.T @ root / N + 0.5 * torch.eye(N, dtype=F64), 0.4 + 1.2 * target[0]

    def function(x):
        gradient = H @ (x - shift)
        return 0.5 * (x - shift) @ gradient, gradient

    return function


def weights():
    return 0.3 + torch.rand(N, generator=torch.Generator().manual_seed(7), dtype=F64)


def half():
    return torch.full((N,), 0.5, dtype=F64)


def slsqp(function, w, total):
    """The minimum by sequential quadratic programming."""

    def both(x):
        value, gradient = function(torch.from_numpy(x))
        return value.item(), gradient.numpy()

    volume = {"type": "eq", "fun": lambda x: float(w.numpy() @ x) - total, "jac": lambda x: w.numpy()}
    options = {"ftol": 1e-12, "maxiter": 1000}
    return minimize(both, half().numpy(), jac=True, bounds=[(0, 1)] * N, constraints=[volume], options=options)


@pytest.mark.parametrize("criterion", ["armijo", "bregman"])
@pytest.mark.parametrize("by_measure", [False, True])
def test_quadratic_on_the_capped_simplex(criterion, by_measure):
    function, w = quadratic(), weights() if by_measure else torch.ones(N, dtype=F64)
    best = slsqp(function, w, 0.4 * float(w.sum()))
    assert best.success
    assert (best.x < 1e-9).any()
    assert (best.x > 1 - 1e-9).any()
    method = SiMPL(0.4, w if by_measure else None, criterion=criterion)
    found = method.minimize(function, half(), steps=3000, objective_tolerance=1e-14)
    assert abs(found.value - best.fun) < 1e-10 * abs(best.fun)
    assert torch.allclose(found.design, torch.from_numpy(best.x), atol=1e-5)


def test_conditions_of_karush_kuhn_and_tucker():
    """One multiplier where densities are free; gradients above it at zero, below it at one."""
    function, w = quadratic(), weights()
    found = SiMPL(0.4, w).minimize(function, half(), steps=20_000, objective_tolerance=0, stationarity_tolerance=1e-6)
    assert found.converged
    gradient = function(found.design)[1] / w
    # Slow at degenerate bounds: what has not decided yet is left out.
    free = (found.design > 1e-2) & (found.design < 1 - 1e-2)
    multiplier = gradient[free].mean()
    assert free.sum() >= 3
    assert torch.allclose(gradient[free], multiplier, atol=1e-4)
    assert (gradient[found.design <= 1e-3] > multiplier).all()
    assert (gradient[found.design >= 1 - 1e-3] < multiplier).all()
    assert found.stationarities[-1] < 1e-4 * found.stationarities[0]


@pytest.mark.parametrize("criterion", ["armijo", "bregman"])
def test_promises_of_every_step(criterion):
    function, w, seen = quadratic(), weights(), []
    calls = 0

    def counted(x):
        nonlocal calls
        calls += 1
        return function(x)

    found = SiMPL(0.4, w, criterion=criterion).minimize(counted, half(), steps=60, callback=seen.append)
    assert found.evaluations[-1] == calls
    assert all(b <= a for a, b in pairwise(found.values))
    for step in seen:
        assert ((step.design > 0) & (step.design < 1)).all()
        assert abs(float((w * step.design).sum() - 0.4 * w.sum())) <= 1e-10
        assert torch.allclose(torch.sigmoid(step.latent), step.design, rtol=1e-12)
        assert step.value == function(step.design)[0].item()
    assert [s.number for s in seen] == list(range(len(found.values)))


@pytest.mark.parametrize("criterion", ["armijo", "bregman"])
def test_is_the_line_search_of_torch_optimisers(criterion):
    """Without weights it is mirror descent with an indicator, in another implementation."""
    function, p = quadratic(), nn.Parameter(torch.full((N,), 0.4, dtype=F64))
    plane = Indicator(AffineSet(torch.ones(1, N, dtype=F64), 0.4 * N))
    theirs = LineSearchMirrorDescent([p], BoxEntropy(Box(0.0, 1.0, dim=N)), prox=plane, criterion=criterion)

    def closure():
        value, p.grad = function(p.detach())
        return value

    for _ in range(25):
        theirs.step(closure)
    ours = SiMPL(0.4, criterion=criterion).minimize(function, p.new_full((N,), 0.4), steps=25, objective_tolerance=0)
    assert torch.allclose(ours.design, p.detach(), rtol=1e-6, atol=1e-9)
    assert ours.evaluations[-1] == theirs.evaluations


def test_steps_do_not_depend_on_the_mesh():
    """Every element cut in four: the same designs, since gradients and inner products are by measure."""
    function = quadratic()

    def finer(x):
        value, gradient = function(x.mean(-1))
        return value, gradient[:, None].expand(-1, 4) / 4

    coarse = SiMPL(0.4).minimize(function, half(), steps=15)
    fine = SiMPL(0.4, torch.full((N, 4), 0.25, dtype=F64)).minimize(finer, half()[:, None].expand(-1, 4), steps=15)
    assert fine.evaluations == coarse.evaluations
    assert torch.allclose(fine.design, coarse.design[:, None].expand(-1, 4), rtol=1e-8)


def test_passive_elements_and_volumes():
    solid, void = torch.zeros(2, N, dtype=torch.bool)
    solid[:3], void[5:9] = True, True
    w = weights()
    found = SiMPL(0.4, w, solid, void).minimize(quadratic(), half(), steps=40)
    assert (found.design[solid] > 1 - 1e-15).all()
    assert (found.design[void] < 1e-40).all()
    assert abs(float((w * found.design).sum() - 0.4 * w.sum())) <= 1e-10
    everything = SiMPL(0.4, w, solid, ~solid)
    with pytest.raises(DomainError, match="strictly between"):
        everything.minimize(quadratic(), half())


def test_volumes_may_be_bounds():
    def shrink(x):
        return (x - 0.3).square().sum(), 2 * (x - 0.3)

    free = SiMPL(0.4, at_most=True).minimize(shrink, torch.full((N,), 0.2, dtype=F64), objective_tolerance=1e-14)
    assert torch.allclose(free.design, torch.tensor(0.3, dtype=F64), atol=1e-6)
    bound = SiMPL(0.2, at_most=True).minimize(shrink, torch.full((N,), 0.1, dtype=F64), objective_tolerance=1e-14)
    assert torch.allclose(bound.design, torch.tensor(0.2, dtype=F64), atol=1e-10)
    kept = SiMPL(0.4).minimize(shrink, torch.full((N,), 0.2, dtype=F64))
    assert torch.allclose(kept.design, torch.tensor(0.4, dtype=F64))
    assert kept.reason in ("stationarity", "objective")


def test_starts_are_projected_and_single_precision_is_kept():
    function = quadratic()

    def single(x):
        value, gradient = function(x.double())
        return value, gradient.float()

    start = torch.rand(N, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    first = []
    found = SiMPL(0.4).minimize(single, start, steps=20, callback=first.append)
    assert found.design.dtype == torch.float32
    assert float(first[0].design.mean()) == pytest.approx(0.4, abs=1e-6)
    odds = torch.logit(first[0].design) - torch.logit(start)
    assert torch.allclose(odds, odds.mean(), atol=1e-4)
    assert ((found.design > 0) & (found.design < 1)).all()


def test_reasons():
    function = quadratic()
    assert SiMPL(0.4).minimize(function, half(), steps=0).reason == "steps"
    assert SiMPL(0.4).minimize(function, half()).converged
    stopped = SiMPL(0.4).minimize(function, half(), callback=lambda s: s.number == 3)
    assert (stopped.reason, len(stopped.values), stopped.converged) == ("callback", 4, False)

    def lying(x):
        lying.calls += 1
        value, gradient = function(x)
        return value, gradient if lying.calls < 5 else -gradient

    lying.calls = 0
    assert SiMPL(0.4).minimize(lying, half()).reason == "no_descent"


def test_bad_input():
    function = quadratic()
    for settings, name in (
        ({"criterion": "wolfe"}, "criterion"),
        ({"step_size": 0.0}, "step_size"),
        ({"max_halvings": 0}, "max_halvings"),
    ):
        with pytest.raises(DomainError, match=name):
            SiMPL(0.4, **settings)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(DomainError, match="volume_fraction"):
            SiMPL(fraction).minimize(function, half())
    mask = torch.zeros(N, dtype=torch.bool)
    with pytest.raises(ShapeError, match="solid"):
        SiMPL(0.4, solid=mask[:3]).minimize(function, half())
    with pytest.raises(ShapeError, match="weights"):
        SiMPL(0.4, weights()[:3]).minimize(function, half())
    with pytest.raises(DomainError, match="both solid and void"):
        SiMPL(0.4, solid=~mask, void=~mask).minimize(function, half())
    with pytest.raises(DomainError, match="weights"):
        SiMPL(0.4, -weights()).minimize(function, half())
    with pytest.raises(DomainError, match="start"):
        SiMPL(0.4).minimize(function, half() * 3)
    with pytest.raises(DomainError, match="steps"):
        SiMPL(0.4).minimize(function, half(), steps=-1)
    with pytest.raises(ShapeError, match="gradient"):
        SiMPL(0.4).minimize(lambda x: (0.0, x[:3]), half())
    with pytest.raises(DomainError, match="at the start"):
        SiMPL(0.4).minimize(lambda x: (float("nan"), x), half())
    with pytest.raises(ConvergenceError, match="check the gradients"):
        SiMPL(0.4).minimize(lambda x: (function(x)[0], -function(x)[1]), half())


def test_projection_of_latents_far_apart():
    """Latents thousands apart: all above the root end as ones, all below as zeros, and the volume is exact."""
    space = SiMPL(0.45).space(torch.zeros(10, dtype=F64))
    latent = space.project(torch.linspace(3e5, -4e3, 10, dtype=F64))
    assert torch.allclose(space.design(latent), torch.tensor([1, 1, 1, 1, 0.5, 0, 0, 0, 0, 0], dtype=F64), atol=1e-12)
    assert latent.abs().max() <= 500


@pytest.mark.parametrize("criterion", ["armijo", "bregman"])
def test_steps_that_saturate_do_not_increase_the_function(criterion):
    function = quadratic()
    found = SiMPL(0.4, criterion=criterion, step_size=1e6).minimize(function, half(), steps=200, objective_tolerance=0)
    assert all(b <= a for a, b in pairwise(found.values))
