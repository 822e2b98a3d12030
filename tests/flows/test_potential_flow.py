"""Convex potential flows, and mirror flows on learned maps: exact densities, training, files."""

import copy

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.data import Synthetic, toy2d
from mirrorgen.errors import DomainError
from mirrorgen.flows import ConvexPotentialFlow, Gaussian, MirrorFlow, StudentT
from mirrorgen.nets import MLP, InputConvexMLP
from mirrorgen.spec import from_spec, to_spec
from mirrorgen.storage import load, save

F64 = torch.float64


def learned_box(gain=3.0) -> M.LearnedMirrorMap:
    return M.LearnedMirrorMap(M.BoxEntropy(D.Box(0.0, 1.0, dim=2)), InputConvexMLP(2, (8, 8), gain=gain, scale=0.3))


def fit(model, x, steps, lr=1e-2, seed=0):
    model.fit_dual_transform(x)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimizer.zero_grad()
        model.loss(x[rows], generator=generator).backward()
        optimizer.step()


def test_base_map_and_normal_prior_give_the_logit_normal():
    flow = ConvexPotentialFlow(M.BoxEntropy(D.Box(0.0, 1.0, dim=2)), dual_transform=None)
    with torch.no_grad():
        flow.shift.fill_(0.7)
        flow.log_scale.fill_(-0.5)
        x = flow.domain.sample_uniform(100, generator=torch.Generator().manual_seed(0), dtype=F64)
        logit = torch.log(x) - torch.log1p(-x)
        shift, scale = float(flow.shift[0]), float(flow.log_scale[0].exp())
        oracle = (torch.distributions.Normal(shift, scale).log_prob(logit) - torch.log(x) - torch.log1p(-x)).sum(-1)
        torch.testing.assert_close(flow.log_prob(x), oracle, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("prior", [Gaussian(), StudentT(5.0)])
@torch.no_grad()
def test_densities_integrate_to_one_and_samples_follow_them(prior):
    flow = ConvexPotentialFlow(learned_box(), prior, dual_transform=None)
    grid = (torch.arange(400, dtype=F64) + 0.5) / 400
    cells = torch.cartesian_prod(grid, grid)
    density = flow.log_prob(cells).exp()
    assert float(density.mean()) == pytest.approx(1.0, abs=2e-3)
    x = flow.sample(40_000, generator=torch.Generator().manual_seed(0))
    assert flow.domain.contains(x).all()
    # Share of samples in the cells of a coarse grid against the integrals of the density.
    coarse = density.reshape(4, 100, 4, 100).mean((1, 3)) / 16
    counts = torch.histogramdd(x.double(), bins=[4, 4], range=[0.0, 1.0, 0.0, 1.0]).hist / len(x)
    assert (counts - coarse).abs().max() < 5 * (0.25 / len(x)) ** 0.5
    outside = torch.tensor([[1.5, 0.5], [0.2, torch.nan]])
    assert (flow.log_prob(outside) == -torch.inf).all()


def test_likelihood_training_raises_the_held_out_likelihood():
    points = Synthetic(toy2d())
    x, held_out = points.points("train"), points.points("test")[:2000]
    gains = []
    for seed in (0, 1):
        base = M.RegularizedBarrier(points.domain, kappa=0.3, weight=0.1, quadratic=0.1)
        scale, center = float(x.std(0).mean()), x.mean(0).tolist()
        convex = InputConvexMLP(2, (32, 32), gain=0.1, scale=scale, center=center, seed=seed)
        values = []
        for mirror_map in (base, M.LearnedMirrorMap(base, convex)):
            flow = ConvexPotentialFlow(mirror_map)
            fit(flow, x, 300, seed=seed)
            with torch.no_grad():
                values.append(float(flow.log_prob(held_out).mean()))
        gains.append(values[1] - values[0])
    assert min(gains) > 0.2


def test_map_weight_trains_the_map_and_nothing_else_does():
    x = learned_box().domain.sample_uniform(500, generator=torch.Generator().manual_seed(0)) ** 2
    for weight, moves in ((0.0, False), (0.5, True)):
        torch.manual_seed(0)
        flow = MirrorFlow(learned_box(gain=0.1), MLP(2, hidden=(8,)), Gaussian(), map_weight=weight)
        flow.fit_dual_transform(x)
        before = copy.deepcopy(flow.mirror_map.state_dict())
        start = flow.map_log_prob(x).mean().item()
        fit(flow, x, 20)
        changed = any(not torch.equal(before[k], v) for k, v in flow.mirror_map.state_dict().items())
        assert changed == moves
        assert (flow.map_log_prob(x).mean().item() > start + 1e-3) == moves


def test_the_term_of_the_map_is_the_density_of_a_still_flow():
    torch.manual_seed(0)
    flow = MirrorFlow(learned_box(), MLP(2, hidden=(8,)), StudentT(), map_weight=1.0)
    x = flow.domain.sample_uniform(50, generator=torch.Generator().manual_seed(0), dtype=F64)
    flow.fit_dual_transform(x)
    with torch.no_grad():
        flow.net.output.weight.zero_()
        flow.net.output.bias.zero_()
        torch.testing.assert_close(flow.map_log_prob(x), flow.log_prob(x), rtol=1e-6, atol=1e-6)
        generator = torch.Generator().manual_seed(1)
        whole = flow.loss(x, generator=generator)
        flow.map_weight = 0.0
        part = flow.loss(x, generator=generator.manual_seed(1))
    assert float(whole - part) == pytest.approx(-flow.map_log_prob(x).mean().item() / 2, rel=1e-6)


def test_points_of_sets_with_equalities_train_in_float32():
    domain = D.Simplex(4)
    mirror_map = M.LearnedMirrorMap(M.SimplexEntropy(domain), InputConvexMLP(3, (8,)))
    x = domain.sample_uniform(64, generator=torch.Generator().manual_seed(0))
    for model in (ConvexPotentialFlow(mirror_map), MirrorFlow(mirror_map, MLP(3, hidden=(8,)), map_weight=0.1)):
        model.fit_dual_transform(x)
        assert torch.isfinite(model.loss(x, generator=torch.Generator().manual_seed(0)))


def test_files_and_specifications(tmp_path):
    flow = MirrorFlow(learned_box(gain=1.0), MLP(2, hidden=(8,)), map_weight=0.1)
    x = flow.domain.sample_uniform(300, generator=torch.Generator().manual_seed(0))
    fit(flow, x, 3)
    potential = ConvexPotentialFlow(learned_box())
    fit(potential, x, 3)
    for model in (flow, potential):
        again = load(save(model, tmp_path / type(model).__name__))
        draws = [m.sample(20, generator=torch.Generator().manual_seed(0)) for m in (model, again)]
        assert torch.equal(*draws)
        with torch.no_grad():
            assert torch.equal(model.log_prob(x), again.log_prob(x))
    assert from_spec(to_spec(flow)).map_weight == 0.1


def test_bad_arguments_get_typed_errors():
    with pytest.raises(DomainError, match="map_weight"):
        MirrorFlow(learned_box(), MLP(2), map_weight=-1.0)
    with pytest.raises(DomainError, match="dual"):
        ConvexPotentialFlow(M.BurgEntropy(D.Orthant(2)))
    flow = ConvexPotentialFlow(learned_box())
    with pytest.raises(DomainError, match="condition"):
        flow.sample(3, condition=torch.zeros(3))
    with pytest.raises(DomainError, match=r"x\[0\]"):
        flow.loss(torch.tensor([[1.5, 0.5]]))
