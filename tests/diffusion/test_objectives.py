"""Objectives against their exact values by quadrature, with fields that do not vanish at the walls."""

import math

import pytest
import torch
from torch import Tensor

from mirrorgen.diffusion import BoxHeatKernel, Denoising, Implicit, ReflectedDiffusion, motion
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Box, Polytope, Simplex
from mirrorgen.nets import MLP

F64 = torch.float64
UNIT = Box(0.0, 1.0, dim=1)
START, SIGMA = 0.2, 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def field(x: Tensor, sigma: Tensor) -> Tensor:
    """Neither zero at the walls nor near the score."""
    return 0.4 + torch.cos(3 * x) * sigma.unsqueeze(-1)


def nodes() -> tuple[Tensor, Tensor]:
    """Points ``(n, 1)`` and equal weights of the midpoint rule."""
    n = 20_000
    return (torch.arange(n, dtype=F64).unsqueeze(-1) + 0.5) / n, torch.full((n,), 1 / n, dtype=F64)


def exact(weight, tangent: bool = False) -> float:
    """``E weight(x) (|f - sigma s|^2 - |sigma s|^2)`` under the kernel from ``START``."""
    x, w = nodes()
    log_k, score = BoxHeatKernel(UNIT).log_prob_and_score(x, torch.full_like(x, START), SIGMA)
    f = field(x, torch.full_like(x[:, 0], SIGMA))
    f = UNIT.no_flux(x, f, SIGMA) if tangent else f
    value = ((f - SIGMA * score).square() - (SIGMA * score).square()).squeeze(-1)
    return float((w * log_k.exp() * weight(x) * value).sum())


def measured(objective, f=field, n: int = 50_000) -> tuple[float, float]:
    """Mean loss of paths from ``START`` and its standard error."""
    x = torch.full((n, 1), START, dtype=F64)
    losses = objective.loss(UNIT, f, x, torch.full((1, n), SIGMA, dtype=F64), seeded())
    return float(losses.mean()), float(losses.std()) / math.sqrt(n)


def tangent_field(x: Tensor, sigma: Tensor) -> Tensor:
    return UNIT.no_flux(x, field(x, sigma), sigma)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_weighted_objective_needs_no_condition_at_the_walls(divergence):
    value = exact(lambda x: torch.minimum(x, 1 - x).squeeze(-1).div(SIGMA).clamp(max=1))
    mean, error = measured(Implicit(divergence, levels=1, weighted=True))
    assert abs(mean - value) < 4 * error


def test_unweighted_objective_does():
    value = exact(lambda x: torch.ones_like(x[:, 0]))
    mean, error = measured(Implicit(levels=1))
    assert abs(mean - value) > 10 * error
    mean, error = measured(Implicit(levels=1), tangent_field)
    assert abs(mean - exact(lambda x: torch.ones_like(x[:, 0]), tangent=True)) < 4 * error


def test_denoising_with_either_target_has_the_same_minimiser():
    # The losses differ by a constant, the variance of the target, and not in how they rank two fields.
    def gap(objective) -> tuple[float, float]:
        n = 50_000
        x, sigmas = torch.full((n, 1), START, dtype=F64), torch.full((1, n), SIGMA, dtype=F64)
        one, two = (objective.loss(UNIT, f, x, sigmas, seeded()) for f in (field, tangent_field))
        return float((one - two).mean()), float((one - two).std()) / math.sqrt(n)

    (kernel, first), (unfolded, second) = gap(Denoising(BoxHeatKernel(UNIT))), gap(Denoising())
    assert abs(kernel - unfolded) < 4 * math.hypot(first, second)
    ranked = exact(lambda x: torch.ones_like(x[:, 0])) - exact(lambda x: torch.ones_like(x[:, 0]), tangent=True)
    assert abs(kernel - ranked) < 4 * first


def test_motion_by_rejection_tends_to_the_reflected_one():
    n = 40_000
    x, w = nodes()
    k = BoxHeatKernel(UNIT).log_prob(x, torch.full_like(x, 0.05), 0.2).exp()
    near = float((w * k)[x[:, 0] < 0.1].sum())
    sigmas = torch.full((1, n), 0.2, dtype=F64)

    def bias(steps: int) -> float:
        start = torch.full((n, 1), 0.05, dtype=F64)
        end = motion(UNIT, start, sigmas, seeded(), steps=steps, boundary="reject")[0]
        assert bool(UNIT.contains(end).all())
        return abs(float((end < 0.1).double().mean()) - near)

    assert bias(100) < 0.25 * bias(4)
    assert bias(100) < 0.02


def test_targets_without_kernel_or_without_tiling():
    model = ReflectedDiffusion(Box(0.0, 1.0, dim=2), MLP(2, hidden=(8,)), objective="unfolded")
    assert torch.isfinite(model.loss(torch.rand(16, 2)))
    with pytest.raises(DomainError, match="log_prob"):
        model.log_prob_bound(torch.rand(16, 2))
    corner = Polytope(torch.cat([-torch.eye(3), torch.ones(1, 3)]), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    other = ReflectedDiffusion(corner, MLP(3, hidden=(8,)), objective="unfolded")
    with pytest.raises(DomainError, match="do not tile"):
        other.loss(corner.sample_uniform(4).float())


@pytest.mark.parametrize("bad", [{"levels": 0}, {"steps": 0}])
def test_bad_settings(bad):
    with pytest.raises(DomainError, match="at least one"):
        Implicit(**bad)


@pytest.mark.parametrize("options", [{"weighted": True}, {"steps": 3, "boundary": "reject"}])
def test_implicit_variants_on_a_simplex(options):
    domain = Simplex(4)
    torch.manual_seed(0)
    model = ReflectedDiffusion(domain, MLP(3, hidden=(8,)), objective=Implicit(levels=2, **options))
    loss = model.loss(domain.sample_uniform(32, generator=seeded()).float(), generator=seeded())
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
