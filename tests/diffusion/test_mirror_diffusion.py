"""Mirror diffusion against the law it has in closed form where the dual data are normal."""

import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.diffusion import GeometricSchedule, MirrorDiffusion
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.nets import MLP
from mirrorgen.spec import from_spec, to_spec

F64 = torch.float64


def normal_dual(domain, mirror_map):
    """Without a correction by the network the score is that of standard normal dual data, up to sigma_min."""
    model = MirrorDiffusion(mirror_map, MLP(domain.dual_dim, [4]), dual_transform=None).double()
    with torch.no_grad():
        for p in model.net.parameters():
            p.zero_()
    return model


def test_density_of_normal_dual_data():
    domain = D.Box(0.0, 1.0, dim=2)
    model = normal_dual(domain, M.BoxEntropy(domain))
    x = domain.sample_uniform(200, generator=torch.Generator().manual_seed(0), dtype=F64)
    y = torch.log(x) - torch.log1p(-x)
    law = torch.distributions.Normal(0.0, (1 + 0.01**2) ** 0.5)  # Data are taken to be at sigma_min.
    oracle = (law.log_prob(y) - torch.log(x) - torch.log1p(-x)).sum(-1)
    assert (model.log_prob(x, steps=200, method="rk4") - oracle).abs().max() < 1e-3
    assert model.log_prob(torch.tensor([[0.5, 1.5], [float("nan"), 0.2]], dtype=F64)).eq(-torch.inf).all()


@pytest.mark.parametrize("method", ["ancestral", "em", "ode"])
def test_samples_of_normal_dual_data(method):
    ball = D.Ball(2, 2.0)
    mirror_map = M.RegularizedBarrier(ball, kappa=0.3)
    model = normal_dual(ball, mirror_map)
    x = model.sample(4000, steps=300, method=method, generator=torch.Generator().manual_seed(0))
    assert ball.contains(x).all()
    y = mirror_map.to_dual(x)
    assert min(stats.kstest(c.numpy(), "norm").pvalue for c in y.T) > 1e-3


def test_learns_with_a_standardised_dual():
    simplex = D.Simplex(3)
    torch.manual_seed(0)
    model = MirrorDiffusion(M.SimplexEntropy(simplex), MLP(2, [64, 64]), GeometricSchedule(0.02, 20.0))
    ends = torch.tensor([[20.0, 2.0, 2.0], [2.0, 2.0, 20.0]]).repeat(2000, 1)
    x = torch.distributions.Dirichlet(ends).sample()
    model.fit_dual_transform(x)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(1)

    def distance():
        draw = model.sample(2000, steps=100, generator=torch.Generator().manual_seed(2))
        assert simplex.contains(draw).all()
        return max(stats.ks_2samp(a, b).statistic for a, b in zip(draw.T.numpy(), x.T.numpy(), strict=True))

    before = distance()
    for _ in range(1000):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimizer.zero_grad()
        model.loss(x[rows], generator=generator).backward()
        optimizer.step()
    assert distance() < 0.5 * before
    again = from_spec(to_spec(model))
    again.load_state_dict(model.state_dict())
    assert torch.allclose(again.encode(x), model.encode(x))


def test_errors():
    box = D.Box(0.0, 1.0, dim=2)
    with pytest.raises(ShapeError):
        MirrorDiffusion(M.BoxEntropy(box), MLP(3, [4]))
    with pytest.raises(DomainError, match="dual"):
        MirrorDiffusion(M.BurgEntropy(D.Orthant(2)), MLP(2, [4]))
    with pytest.raises(DomainError, match="unbounded"):
        MirrorDiffusion(M.Quadratic(D.Euclidean(2)), MLP(2, [4]))
