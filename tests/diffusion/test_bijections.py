"""Bijections: determinants, round trips next to walls, bad input."""

import itertools
import math

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen.diffusion import Bijection, Gaps, Identity, ProductBijection, StickBreaking, ordered_simplex
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec

F32, F64 = torch.float32, torch.float64
BIJECTIONS = {
    "sticks 1": lambda: StickBreaking(1),
    "sticks 2": lambda: StickBreaking(2),
    "sticks 7": lambda: StickBreaking(7),
    "sticks 30": lambda: StickBreaking(30),
    "gaps 1": lambda: Gaps(1),
    "gaps 3": lambda: Gaps(3),
    "gaps 12": lambda: Gaps(12),
    "corner 1": lambda: Gaps(1, corner=True),
    "corner 4": lambda: Gaps(4, corner=True),
    "identity": lambda: Identity(D.Ball(3, 2.0)),
    "product": lambda: ProductBijection(StickBreaking(2), Identity(D.Box(-1.0, 1.0)), Gaps(2, corner=True)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=BIJECTIONS)
def bijection(request):
    return BIJECTIONS[request.param]()


def free(domain, x):
    """The coordinates that carry the measure: all but the last of every simplex."""
    if isinstance(domain, D.Product):
        return torch.cat([free(d, p) for d, p in zip(domain.blocks, domain.split(x), strict=True)], -1)
    return x[..., :-1] if isinstance(domain, D.Simplex) else x


def test_determinants_are_those_of_the_jacobian(bijection):
    x = bijection.source.sample_uniform(6, generator=generator(), dtype=F64)
    jacobian = torch.stack([torch.func.jacrev(lambda p: free(bijection.target, bijection(p)))(p) for p in x])
    exact = torch.linalg.slogdet(jacobian)[1]
    assert torch.allclose(bijection.log_abs_det(x), exact, atol=1e-10)
    assert torch.allclose(bijection.inverse_log_abs_det(bijection(x)), -exact, atol=1e-10)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_round_trips_and_images_are_inside(bijection, dtype):
    for first, second, forth, back in (
        (bijection.source, bijection.target, bijection, bijection.inverse),
        (bijection.target, bijection.source, bijection.inverse, bijection),
    ):
        x = first.sample_uniform(2000, generator=generator(1), dtype=dtype)
        image = forth(x)
        assert image.dtype == dtype
        assert second.contains(image).all()
        # Shares round in proportion to all that is left, and points on walls are moved by a few units.
        assert float((back(image) - x).abs().max()) < 4 * (4 + first.dim) * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [F32, F64])
def test_next_to_walls(bijection, dtype):
    """Points whose distances to some walls are 1e-30, or as small as their dtype holds."""
    for domain, other, forth, back in (
        (bijection.source, bijection.target, bijection, bijection.inverse),
        (bijection.target, bijection.source, bijection.inverse, bijection),
    ):
        x = near_walls(domain, dtype)
        image = forth(x)
        assert other.contains(image).all()
        assert torch.isfinite(bijection.log_abs_det(x if domain is bijection.source else image)).all()
        again = back(image)
        assert domain.contains(again).all()
        assert float((again - x).abs().max()) < 64 * (4 + domain.dim) * torch.finfo(dtype).eps


def near_walls(domain, dtype):
    """Points with coordinates of 1e-30 at random places; elsewhere projections onto the walls, pulled inside."""
    if isinstance(domain, D.Product):
        return torch.cat([near_walls(d, dtype) for d in domain.blocks], -1)
    x = domain.sample_uniform(500, generator=generator(2), dtype=F64)
    small = torch.rand(x.shape, generator=generator(3)) < 0.4
    if isinstance(domain, D.Simplex):
        x = torch.where(small & ~small.all(-1, keepdim=True), 1e-30, x)
        x = x / x.sum(-1, keepdim=True)
    elif isinstance(domain, D.Box):
        x = torch.where(small, domain.low + 1e-30, x)
    else:
        center = domain.interior_point()
        x = domain.project(center + 3 * (x - center))
    return domain.pull_inside(x.to(dtype))[0]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_shares_of_tiny_coordinates_keep_their_digits(dtype):
    """A coordinate of 1e-30 is a number as good as any other, in whatever place."""
    sticks = StickBreaking(3)
    eps = torch.finfo(dtype).eps
    for places in itertools.chain.from_iterable(itertools.combinations(range(4), k) for k in (1, 2, 3)):
        y = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64)
        y[list(places)] *= 1e-30
        y = (y / y.sum()).to(dtype)
        x, exact = sticks.inverse(y), y.double()
        shares = exact[:-1] / exact.flip(0).cumsum(0).flip(0)[:-1]
        assert torch.allclose(x.double(), shares, rtol=2 * eps, atol=0)
        # The determinant comes from y, also where a share rounds to one.
        rests = exact.flip(0).cumsum(0).flip(0)[1:-1]
        assert torch.allclose(sticks.inverse_log_abs_det(y).double(), -rests.log().sum(), rtol=4 * eps, atol=0)
        back = sticks(x).double()
        assert float((back - exact).abs().max()) < 4 * eps
        whole = (x < 1 - 2 * eps).cummin(-1).values
        assert torch.allclose(back[:-1][whole], exact[:-1][whole], rtol=8 * eps, atol=0)


def test_uniform_points_stay_uniform_under_gaps():
    y = Gaps(4)(ordered_simplex(4).sample_uniform(10_000, generator=generator(), dtype=F64))
    # Dirichlet(1, ..., 1): mean 1/5, variance 4/150.
    assert torch.allclose(y.mean(0), torch.full((5,), 0.2, dtype=F64), atol=4 * (4 / 150 / 10_000) ** 0.5)
    assert torch.allclose(y.var(0), torch.full((5,), 4 / 150, dtype=F64), rtol=0.1)


def test_transforms_and_compilers(bijection):
    x = bijection.source.sample_uniform(5, generator=generator(), dtype=F64)
    assert torch.allclose(torch.func.vmap(bijection)(x), bijection(x))
    value, tangent = torch.func.jvp(bijection, (x,), (torch.ones_like(x),))
    ahead = bijection._forward(x + 1e-6), bijection._forward(x - 1e-6)
    assert torch.allclose(tangent, (ahead[0] - ahead[1]) / 2e-6, atol=1e-6)
    assert torch.equal(value, bijection(x))


def test_specification(bijection):
    again = from_spec(to_spec(bijection))
    x = bijection.source.sample_uniform(20, generator=generator())
    assert torch.allclose(again(x), bijection(x), atol=1e-6)
    assert to_spec(again) == to_spec(bijection)


def test_bad_input():
    sticks = StickBreaking(2)
    for call, point, message in (
        (sticks, [0.5, 1.0], r"x\[1\] < 1"),
        (sticks, [math.nan, 0.5], "NaN"),
        (sticks.log_abs_det, [-0.1, 0.5], r"x\[0\] > 0"),
        (sticks.inverse, [0.5, 0.5, 0.0], r"x\[2\] > 0"),
        (sticks.inverse_log_abs_det, [0.5, 0.4, 0.2], "equality"),
        (Gaps(2), [0.2, 0.4], "A"),
        (Gaps(2, corner=True).inverse, [0.6, 0.5], "A"),
    ):
        with pytest.raises(DomainError, match=message):
            call(torch.tensor(point))
    for call, shape in ((sticks, 3), (sticks.inverse, 2), (sticks.log_abs_det, 1), (sticks.inverse_log_abs_det, 2)):
        with pytest.raises(ShapeError, match="last axis"):
            call(torch.full((4, shape), 0.3))
    strangers = [D.Simplex(2)]
    for make, arguments in ((StickBreaking, [0]), (Gaps, [0]), (ProductBijection, []), (ProductBijection, strangers)):
        with pytest.raises(DomainError):
            make(*arguments)
    with pytest.raises(DomainError, match="source"):
        Identity("simplex")

    class Wrong(Bijection):
        _forward = _inverse = _log_abs_det = None

    with pytest.raises(DomainError, match="keeps the dimension"):
        Wrong(D.Box(0.0, 1.0, dim=2), D.Simplex(2))
