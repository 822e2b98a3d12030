"""The small systems that serve samplers on polytopes: both forms, far dual points, and the size of constants."""

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.geometry.mirror_maps import slack_forms
from mirrorgen.geometry.mirror_maps.slack_forms import EqualityForm, RowForm
from mirrorgen.geometry.mirror_maps.slack_local import solve_near
from mirrorgen.geometry.mirror_maps.slack_power import SlackPower
from tests.contracts.cases import random_polytope

F64 = torch.float64


def constants(domain: D.Domain) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, bounds = domain.halfspaces()
    center = domain.to_chart(domain.interior_point())
    return rows, bounds - rows @ center, center


def dual_points(domain: D.Domain, size: float) -> torch.Tensor:
    return size * torch.randn(6, domain.dual_dim, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.mark.parametrize("kappa", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("domain", [D.Birkhoff(3), random_polytope()], ids=["birkhoff", "random"])
def test_both_forms_solve_the_same_problem(domain, kappa):
    rows, slack, center = constants(domain)
    power = SlackPower(kappa, 0.7)
    y = dual_points(domain, 2.0)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    answers = []
    for form in (RowForm(rows, slack, center, power, 0.0), EqualityForm(rows, slack, center, power)):
        z, sigma, converged = solve_near(form, y, center.expand_as(y), torch.log(slack).expand(len(y), -1))
        assert bool(converged.all())
        # The definition, with slacks of the point itself.
        s = slack - (z - center) @ rows.mT
        torch.testing.assert_close(power.force(torch.log(s)) @ rows, y, rtol=1e-9, atol=1e-9)
        factor = form.factor(sigma)
        answers.append((z, sigma, form.logdet(sigma, factor), form.score(g, sigma, torch.cholesky_inverse(factor))))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_log_determinant_and_score_by_dense_algebra():
    domain = D.Birkhoff(4)
    rows, slack, center = constants(domain)
    form = EqualityForm(rows, slack, center, SlackPower(0.0, 1.0))
    z, sigma, _ = solve_near(form, dual_points(domain, 1.0), center.expand(6, -1), torch.log(slack).expand(6, -1))

    def log_det(point: torch.Tensor) -> torch.Tensor:
        return torch.logdet(rows.mT @ ((1 / (slack - rows @ (point - center))).unsqueeze(-1) * rows))

    slope = torch.stack([torch.func.grad(log_det)(point) for point in z])
    hessian = torch.stack([rows.mT @ (torch.exp(-s).unsqueeze(-1) * rows) for s in sigma])
    factor = form.factor(sigma)
    torch.testing.assert_close(form.logdet(sigma, factor), torch.stack([log_det(p) for p in z]), rtol=0, atol=1e-10)
    score = form.score(torch.ones_like(z), sigma, torch.cholesky_inverse(factor))
    expected = torch.linalg.solve(hessian, (1 - slope).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(score, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [30.0, 150.0])
@pytest.mark.parametrize(
    "mirror_map",
    [M.SlackEntropy(D.Birkhoff(4)), M.SlackEntropy(random_polytope()), M.LogBarrier(random_polytope())],
    ids=["birkhoff", "entropy", "log"],
)
def test_far_dual_points(mirror_map, size):
    # Slacks from 1 to e^-500: the small factor keeps nothing there, and the other one takes over.
    y = dual_points(mirror_map.domain, size)
    with torch.no_grad():
        local = mirror_map.local(y, mirror_map.local(0.9 * y).start)
        assert bool(mirror_map.domain.contains(local.x).all())
        torch.testing.assert_close(local.log_det, mirror_map.log_det_jacobian_dual(y), rtol=0, atol=1e-7)
        assert bool(torch.isfinite(local.log_det_gradient).all())
        near = mirror_map.log_det_gradient_dual(y)
        if size > 100:
            return  # Autograd overflows.
        torch.testing.assert_close(local.log_det_gradient, near, rtol=1e-6, atol=1e-6 * float(near.abs().max()))


def test_many_rows_do_without_the_pairs(monkeypatch):
    domain = random_polytope()
    rows, slack, center = constants(domain)
    y = dual_points(domain, 1.0)
    answers = []
    for limit in (2**22, 0):
        monkeypatch.setattr(slack_forms, "PAIR_ENTRIES", limit)
        form = RowForm(rows, slack, center, SlackPower(0.0, 1.0), 0.0)
        _, sigma, _ = solve_near(form, y, center.expand_as(y), torch.log(slack).expand(len(y), -1))
        answers.append(form.score(torch.ones_like(y), sigma, torch.cholesky_inverse(form.factor(sigma))))
    torch.testing.assert_close(*answers, rtol=1e-10, atol=1e-10)
