"""Learned mirror maps beyond the contract: strong learned parts, derivatives in the weights, other modules."""

import pytest
import torch
from torch import nn

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.geometry.mirror_maps.newton import newton_inverse
from mirrorgen.geometry.mirror_maps.sum_hessian import SumHessian
from mirrorgen.nets import InputConvexMLP
from tests.contracts.cases import interior_points, learned, near_faces, random_polytope

F64 = torch.float64
BASES = {
    "polytope": lambda: M.RegularizedBarrier(random_polytope(), kappa=0.3),
    "light": lambda: M.RegularizedBarrier(random_polytope(), kappa=0.05, weight=0.1, quadratic=0.1),
    "box": lambda: M.BoxEntropy(D.Box([-1.0, 0.0, 2.0], [1.0, 0.5, 7.0])),
    "ball": lambda: M.RegularizedBarrier(D.Ball(3, radius=2.5, center=[1.0, -2.0, 0.5])),
    "simplex": lambda: M.SimplexEntropy(D.Simplex(4)),
    "birkhoff": lambda: M.RegularizedBarrier(D.Birkhoff(3), kappa=0.1),
    "orthant": lambda: M.SoftplusDual(D.Orthant(3)),
}


def strong(base: M.MirrorMap, gain: float) -> M.LearnedMirrorMap:
    """A learned part whose curvature is up to thousands of times that of the base."""
    return M.LearnedMirrorMap(base, InputConvexMLP(base.domain.dual_dim, (12, 12), gain=gain, scale=0.3, seed=3))


class LogSumExp(nn.Module):
    """A convex function without closed derivatives."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(7, dim, generator=torch.Generator().manual_seed(0), dtype=F64))

    def forward(self, x):
        return torch.logsumexp(x @ self.weight.mT, -1)


@pytest.mark.parametrize(("name", "gain"), [*((n, 3.0) for n in BASES), ("polytope", 100.0), ("box", 100.0)])
@torch.no_grad()
def test_round_trips_of_spread_points_and_next_to_faces(name, gain):
    mirror_map = strong(BASES[name](), gain)
    for x in (interior_points(mirror_map.domain, 32), near_faces(mirror_map.domain, 32, 1e-6)):
        back = mirror_map.to_primal(mirror_map.to_dual(x))
        assert ((back - x).abs().amax(-1) / (1 + x.abs().amax(-1))).max() < 1e-9


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_far_dual_points_satisfy_the_equation_of_the_base(name):
    # The base's own inverse is the yardstick: grad phi(x) = y means x = grad base*(y - grad f(x)).
    mirror_map = strong(BASES[name](), 10.0)
    y = torch.randn(16, mirror_map.domain.dual_dim, generator=torch.Generator().manual_seed(0), dtype=F64)
    for scale in (1.0, 30.0, 1e3, 1e6):
        far = scale * y / y.norm(dim=-1, keepdim=True)
        x = mirror_map.to_primal(far)
        assert mirror_map.domain.contains(x).all()
        other = mirror_map.base.to_primal(far - mirror_map.convex_gradient(mirror_map.coordinates(x)))
        torch.testing.assert_close(x, other, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_inverse_agrees_with_newton_in_the_primal():
    # A second implementation: the default of every map, damped Newton on the potential in x.
    mirror_map = strong(BASES["polytope"](), 3.0)
    y = 3 * torch.randn(64, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    torch.testing.assert_close(mirror_map.to_primal(y), newton_inverse(mirror_map, y), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_untrained_map_is_close_to_its_base():
    base = BASES["polytope"]()
    mirror_map = M.LearnedMirrorMap(base, InputConvexMLP(3, gain=1e-6))
    x = interior_points(base.domain, 32)
    torch.testing.assert_close(mirror_map.to_dual(x), base.to_dual(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["polytope", "simplex"])
def test_derivatives_in_the_weights(name):
    base = BASES[name]()
    convex = InputConvexMLP(base.domain.dual_dim, (4, 3), gain=2.0, scale=0.5, seed=1).double()
    mirror_map = M.LearnedMirrorMap(base, convex)
    y = mirror_map.to_dual(interior_points(base.domain, 2)).detach()
    parameters = list(convex.parameters())

    def moved(*values):
        with torch.no_grad():
            for weight, value in zip(parameters, values, strict=True):
                weight.copy_(value)
        return mirror_map.to_primal(y)

    # Finite differences over the whole solve against reverse mode through the replayed steps.
    values = [p.detach().clone() for p in parameters]
    probe = torch.randn(moved(*values).shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    gradients = torch.autograd.grad((moved(*values) * probe).sum(), parameters, allow_unused=True)
    for k, gradient in enumerate(gradients):
        direction = torch.randn(values[k].shape, generator=torch.Generator().manual_seed(k), dtype=F64)
        ends = [[*values[:k], values[k] + h * direction, *values[k + 1 :]] for h in (1e-5, -1e-5)]
        with torch.no_grad():
            numeric = ((moved(*ends[0]) - moved(*ends[1])) * probe).sum() / 2e-5
        analytic = 0.0 if gradient is None else (gradient * direction).sum()
        assert abs(float(numeric - analytic)) < 1e-7 * (1 + abs(float(numeric)))


def test_modules_without_closed_derivatives_use_autograd():
    base = BASES["ball"]()
    mirror_map = M.LearnedMirrorMap(base, LogSumExp(3))
    x = interior_points(base.domain, 16)
    z = mirror_map.coordinates(x)
    oracle = torch.func.vmap(torch.func.hessian(mirror_map.potential))(z)
    torch.testing.assert_close(mirror_map.hessian(x).dense(), oracle, rtol=1e-9, atol=1e-9)
    back = mirror_map.to_primal(mirror_map.to_dual(x))
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)


def test_sum_hessian_of_stiff_operators_keeps_the_soft_part():
    # One curvature of 1e14: a Cholesky factor of the sum would keep two digits of the small ones.
    base = M.LogBarrier(D.Box(0.0, 1.0, dim=2))
    operator = base.hessian(torch.tensor([1e-7, 0.5], dtype=F64))
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=F64)
    ours = SumHessian(operator, matrix)
    a, b, c = float(operator.dense()[0, 0]) + 2.0, 1.0, float(operator.dense()[1, 1]) + 3.0
    v = torch.tensor([0.3, -0.7], dtype=F64)
    expected = torch.tensor([(c * 0.3 + b * 0.7) / (a * c - b * b), (-b * 0.3 - a * 0.7) / (a * c - b * b)], dtype=F64)
    torch.testing.assert_close(ours.solve(v), expected, rtol=1e-12, atol=0.0)
    assert float(ours.logdet()) == pytest.approx(float(torch.tensor(a * c - b * b, dtype=F64).log()), rel=1e-13)


def test_what_is_refused():
    base = BASES["polytope"]()
    with pytest.raises(DomainError, match="dual"):
        M.LearnedMirrorMap(M.BurgEntropy(D.Orthant(3)), InputConvexMLP(3))
    with pytest.raises(DomainError, match="base"):
        M.LearnedMirrorMap(InputConvexMLP(3), InputConvexMLP(3))  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="double"):
        M.LearnedMirrorMap(base, nn.Linear(3, 1))
    with pytest.raises(ShapeError, match="one number"):
        M.LearnedMirrorMap(base, nn.Linear(3, 1).double())
    with pytest.raises(ShapeError):
        M.LearnedMirrorMap(base, InputConvexMLP(2))
    with pytest.raises(DomainError, match="on_failure"):
        M.LearnedMirrorMap(base, InputConvexMLP(3), on_failure="ignore")


def test_a_function_that_is_not_convex_fails_loudly():
    class Concave(nn.Module):
        def forward(self, x):
            return -50.0 * x.square().sum(-1)

    y = torch.tensor([[0.4, -0.3, 0.8]], dtype=F64)
    with pytest.raises(ConvergenceError, match="convex") as caught:
        M.LearnedMirrorMap(BASES["polytope"](), Concave()).to_primal(y)
    assert not caught.value.residual <= 1e-9
    rows = M.LearnedMirrorMap(BASES["polytope"](), Concave(), on_failure="nan").to_primal_with_moved(y)[0]
    assert torch.isnan(rows).all()


def test_empty_batches():
    mirror_map = learned(BASES["polytope"]())
    assert mirror_map.to_primal(torch.zeros(0, 3)).shape == (0, 3)
