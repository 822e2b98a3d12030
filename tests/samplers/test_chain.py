"""What a chain says about itself: summary, diagnosis, files, ArviZ."""

import json
import sys
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mirrorgen import domains, mirror_maps, samplers
from mirrorgen.errors import DomainError, MissingExtraError, SamplingWarning
from mirrorgen.metrics import effective_sample_size, mcse, rhat

BOX = domains.Box([-1.0] * 3, [1.0] * 3)


def kernel(**settings):
    return samplers.MirroredHMC(lambda x: torch.zeros(len(x)), mirror_maps.BoxEntropy(BOX), **settings)


def chain(positions, acceptance=0.8, **settings):
    draws, chains, _ = positions.shape
    stats = {
        "acceptance": torch.full((draws, chains), acceptance),
        "accepted": torch.ones(draws, chains),
        "nonfinite": torch.zeros(draws, chains),
        "log_density": torch.zeros(draws, chains),
    }
    return samplers.Chain(positions, 2 * positions, stats, kernel(**settings), None, 17, draws, {"thin": 1})


def uniform(draws, chains, dim=3, seed=0):
    return 1.9 * (torch.rand(draws, chains, dim, generator=torch.Generator().manual_seed(seed)) - 0.5)


def autoregression(rho, draws, chains, seed=0):
    """Chains in the cube with correlation ``rho^t`` before the bounded map."""
    noise = torch.randn(draws, chains, 3, generator=torch.Generator().manual_seed(seed))
    x = [noise[0]]
    for e in noise[1:]:
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * e)
    return torch.tanh(torch.stack(x))


def test_methods_are_the_metrics():
    c = chain(uniform(50, 4))
    for kind in ("bulk", "tail", "mean"):
        assert torch.equal(c.ess(kind), effective_sample_size(c.positions, kind))
    assert torch.equal(c.rhat(), rhat(c.positions))
    assert repr(c) == "Chain(MirroredHMC, draws=50, chains=4, dim=3, dtype=torch.float32)"


def test_summary_holds_moments_and_quantiles():
    c = chain(uniform(101, 4))
    s, flat = c.summary(), c.flatten().double()
    assert torch.allclose(s.mean, flat.mean(0))
    assert torch.allclose(s.sd, flat.std(0))
    assert torch.allclose(s.q5, torch.tensor(np.quantile(flat.numpy(), 0.05, axis=0)))
    assert torch.allclose(s.q95, torch.tensor(np.quantile(flat.numpy(), 0.95, axis=0)))
    assert torch.equal(s.mcse, mcse(c.positions))
    assert torch.equal(s.ess_bulk, c.ess())
    assert torch.equal(s.ess_tail, c.ess("tail"))
    assert (s.draws, s.chains, s.kernel, s.stuck, s.nonfinite) == (101, 4, "MirroredHMC", 0, 0)
    assert s.acceptance == pytest.approx(0.8)
    assert s.feasibility.all_inside


def test_summary_prints_an_aligned_table():
    text = str(chain(uniform(100, 4)).summary())
    lines = text.splitlines()
    assert lines[0] == "MirroredHMC: 4 chains of 100 draws, 3 coordinates"
    assert lines[1].split() == ["mean", "sd", "mcse", "5%", "95%", "ess_bulk", "ess_tail", "rhat"]
    assert [line.split()[0] for line in lines[2:5]] == ["x[0]", "x[1]", "x[2]"]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert "400 of 400 points (100%) strictly inside in float32" in lines[-1]


def test_long_tables_show_the_worst_coordinates():
    x = torch.rand(100, 4, 50, generator=torch.Generator().manual_seed(0))
    x[:, :, 37] = torch.linspace(0, 1, 100)[:, None]
    x[:, :, 41] = 0.5
    box = mirror_maps.BoxEntropy(domains.Box([-1.0] * 50, [2.0] * 50))
    c = replace(chain(x), kernel=samplers.MirroredHMC(lambda x: x.sum(-1), box))
    text = str(c.summary())
    assert "x[37]" in text
    assert "x[41]" in text
    assert "nan" in text
    assert "... 38 more coordinates" in text
    assert len(text.splitlines()) == 16


@pytest.mark.parametrize(("draws", "chains"), [(1000, 4), (100, 4), (100, 256), (2000, 1), (400, 16)])
def test_good_chains_are_not_accused(draws, chains):
    for seed in range(10):
        assert chain(autoregression(0.5, draws, chains, seed)).diagnose() == []


def one(c, *words):
    found = c.diagnose()
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


def test_chains_in_different_modes_are_named():
    x = uniform(1000, 4)
    x[:, 0, 1] = 0.5 + 0.1 * x[:, 0, 1]
    one(chain(x), "R-hat of 4 chains", "x[1]", "1 of 3 coordinates", "num_warmup")
    many = uniform(200, 64)
    many[:, ::2, 2] = 0.5 + 0.1 * many[:, ::2, 2]
    one(chain(many), "R-hat of 64 chains is", "x[2]")


def test_a_common_drift_of_many_chains_is_named():
    """Too small for the R-hat of single short chains, far above the noise of the pool."""
    x = 0.5 * uniform(100, 256)
    x[:50, :, 0] += 0.2
    assert float(rhat(x).max()) < 1.1
    one(chain(x), "pooled into four", "x[0]")


def test_few_effective_draws_are_named():
    # Few chains that agree but hardly move: a random walk across the box, reflected at its walls.
    steps = 0.1 * torch.randn(2000, 1, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([uniform(2000, 1, 2), 0.6 * torch.sin(steps.cumsum(0))], -1)
    found = chain(x).diagnose()
    assert any("x[2]" in sentence for sentence in found)


def test_acceptance_far_from_its_target_is_named():
    one(chain(uniform(400, 4), 0.3, step_size=0.25), "acceptance is 0.300", "near 0.8", "lower step_size (now 0.25)")
    slow = autoregression(0.8, 2000, 4)
    one(chain(slow, 0.99, step_size=0.25), "acceptance is 0.990", "raise step_size (now 0.25)")
    assert chain(slow, 0.6).diagnose() == []
    # Independent draws need no longer moves.
    assert chain(uniform(400, 4), 0.99).diagnose() == []


def test_chains_that_never_moved_are_named():
    x = uniform(400, 4)
    c = chain(x)
    c.stats["accepted"][:, 2] = 0
    one(c, "1 of 4 chains never moved", "initial")
    assert c.summary().stuck == 1
    assert "1 chain never moved" in str(c.summary())


def test_values_that_are_not_finite_are_named():
    c = chain(uniform(400, 4))
    c.stats["nonfinite"][0, 0] = 1
    assert c.diagnose() == []
    c.stats["nonfinite"][:, 0] = 1
    one(c, "400 of 1600 proposals", "log_density finite")
    assert "400 proposals not finite" in str(c.summary())


def test_particles_are_not_compared():
    """Particles that stay apart are what a particle method is for."""
    x = uniform(400, 16)
    x[:] = x[0] + 1e-3 * x
    c = replace(chain(x), kernel=samplers.MSVGD(lambda x: -x.square().sum(-1), mirror_maps.BoxEntropy(BOX)))
    assert c.diagnose() == []
    s = c.summary()
    assert torch.allclose(s.mean, x[-1].double().mean(0))
    assert bool(torch.isnan(s.rhat).all())
    assert str(s).startswith("MSVGD: 16 particles after 400 draws, 3 coordinates")
    x[0, 0, 0] = 2
    one(c, "1 of 6400 draws are not strictly inside")


def test_points_outside_are_named():
    x = uniform(400, 4)
    x[7, 1, 2] = 1.5
    one(chain(x), "1 of 1600 draws are not strictly inside in float32", "x[2]")


def test_warnings_name_the_caller():
    c = chain(uniform(400, 4), 0.3)
    with pytest.warns(SamplingWarning, match="acceptance is 0.300") as caught:
        c.warn()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain(uniform(400, 4)).warn()


def test_a_real_run_is_healthy_and_a_bad_one_is_not():
    start = uniform(4, 1, seed=1)[:, 0]
    target = lambda x: -8 * x.square().sum(-1)  # noqa: E731
    good = samplers.MirroredHMC(target, mirror_maps.BoxEntropy(BOX), step_size=0.25, num_steps=5)
    run = lambda k: samplers.run(k, start, 400, generator=torch.Generator().manual_seed(0))  # noqa: E731
    assert run(good).diagnose() == []
    sentences = " ".join(run(replace(good, step_size=0.005, num_steps=1)).diagnose())
    assert "raise step_size (now 0.005)" in sentences
    assert "R-hat" in sentences


def test_files_hold_the_chain(tmp_path):
    c = chain(uniform(20, 4), step_size=0.25)
    path = c.save(tmp_path / "new" / "chain.safetensors")
    assert [p.name for p in path.parent.iterdir()] == ["chain.safetensors"]
    twin = samplers.Chain.load(path)
    assert torch.equal(twin.positions, c.positions)
    assert torch.equal(twin.dual, c.dual)
    assert twin.stats.keys() == c.stats.keys()
    assert all(torch.equal(twin.stats[name], c.stats[name]) for name in c.stats)
    assert (twin.seed, twin.steps, twin.meta, twin.state) == (17, 20, {"thin": 1}, None)
    assert (twin.kernel.name, twin.kernel.step_size, twin.kernel.target_acceptance) == ("MirroredHMC", 0.25, 0.8)
    assert str(twin.summary()) == str(c.summary())
    assert twin.diagnose() == c.diagnose()
    again = samplers.Chain.load(twin.save(tmp_path / "again.safetensors"))
    assert again.kernel.settings == twin.kernel.settings
    with pytest.raises(DomainError, match="build MirroredHMC again"):
        twin.kernel.step(None, None)
    with pytest.raises(DomainError, match="build MirroredHMC again"):
        twin.kernel.init(c.positions[-1])
    with pytest.raises(DomainError, match="comes from a file"):
        samplers.extend(twin, 10)
    with pytest.raises(AttributeError, match="no setting 'mass'"):
        _ = twin.kernel.mass


def test_chains_without_dual_or_plain_domain(tmp_path):
    class Own(domains.Box):
        """Outside the package, with an argument that has no plain form."""

        def __init__(self, made_by):
            super().__init__([-1.0] * 3, [1.0] * 3)
            self.made_by = made_by

    c = chain(uniform(20, 4))
    own = replace(c.kernel, mirror_map=mirror_maps.BoxEntropy(Own(object())))
    twin = samplers.Chain.load(replace(c, dual=None, kernel=own).save(tmp_path / "c.safetensors"))
    assert twin.dual is None
    assert torch.equal(twin.ess(), c.ess())
    with pytest.raises(DomainError, match="no plain-data form"):
        twin.summary()


def test_bad_files_are_refused(tmp_path):
    c = chain(uniform(20, 4))
    with pytest.raises(DomainError, match=r"\.safetensors or \.nc"):
        c.save(tmp_path / "c.pt")
    with pytest.raises(DomainError, match="no file"):
        samplers.Chain.load(tmp_path / "c.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"nothing")
    with pytest.raises(DomainError, match="no safetensors file"):
        samplers.Chain.load(tmp_path / "noise.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DomainError, match="holds no chain"):
        samplers.Chain.load(tmp_path / "other.safetensors")


class Recorder:
    """Stands in for ArviZ and keeps what it is given."""

    def __init__(self, version):
        self.module = types.ModuleType("arviz")
        self.module.__version__ = version
        self.module.from_dict = self
        self.attrs = {}

    def __call__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        return self

    def __getitem__(self, name):
        return self

    def add_groups(self, groups, **kwargs):
        self.added = groups


def test_both_lines_of_arviz_get_chains_first(monkeypatch):
    c = chain(uniform(20, 4))
    c.stats["nonfinite"][3, 1] = 2
    old, new = Recorder("0.23.4"), Recorder("1.3.1")
    monkeypatch.setitem(sys.modules, "arviz", old.module)
    c.to_arviz()
    groups = {name: old.kwargs[name] for name in ("posterior", "sample_stats")} | old.added
    monkeypatch.setitem(sys.modules, "arviz", new.module)
    c.to_arviz()
    assert json.loads(new.attrs["mirrorgen_chain"]) == json.loads(old.kwargs["posterior_attrs"]["mirrorgen_chain"])
    for found in (groups, new.args[0]):
        assert np.array_equal(found["posterior"]["x"], c.positions.transpose(0, 1).numpy())
        assert np.array_equal(found["unconstrained_posterior"]["y"], c.dual.transpose(0, 1).numpy())
        stats = found["sample_stats"]
        assert sorted(stats) == ["acceptance_rate", "accepted", "diverging", "lp", "nonfinite"]
        assert np.argwhere(stats["diverging"]).tolist() == [[1, 3]]


def test_arviz_itself(tmp_path):
    with warnings.catch_warnings():
        # Both lines announce their future on import.
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
        c = chain(uniform(20, 4))
        data = c.to_arviz()
        twin = samplers.Chain.load(c.save(tmp_path / "c.nc"))
        expected = np.asarray(arviz.ess(data)["x"])
    assert data["posterior"]["x"].dims == ("chain", "draw", "coordinate")
    assert np.allclose(expected, c.ess().numpy())
    assert torch.equal(twin.positions, c.positions)
    assert torch.equal(twin.dual, c.dual)
    assert all(torch.equal(twin.stats[name], c.stats[name]) for name in c.stats)
    assert str(twin.summary()) == str(c.summary())


def test_without_arviz_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "arviz", None)
    c = chain(uniform(20, 4))
    with pytest.raises(MissingExtraError, match=r"mirrorgen\[arviz\]"):
        c.to_arviz()
    with pytest.raises(MissingExtraError, match=r"mirrorgen\[arviz\]"):
        c.save(tmp_path / "c.nc")
    assert list(tmp_path.iterdir()) == []
