"""The runner: thinning, warm-up, continuation and interruption."""

import pytest
import torch

from mirrorgen import mirror_maps, samplers, targets
from mirrorgen.errors import DomainError
from mirrorgen.samplers.adaptation import DualAveraging


def kernel(**settings):
    target = targets.Dirichlet([3.0, 2.0, 1.0])
    return samplers.MirroredHMC(target, mirror_maps.SimplexEntropy(target.domain), **settings)


def start(chains=4, dtype=torch.float64):
    return torch.full((chains, 3), 1 / 3, dtype=dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b):
    assert torch.equal(a.positions, b.positions)
    assert torch.equal(a.dual, b.dual)
    assert all(torch.equal(a.stats[name], b.stats[name]) for name in a.stats)
    assert a.steps == b.steps
    assert a.seed == b.seed
    assert all((p is None and q is None) or torch.equal(p, q) for p, q in zip(a.state, b.state, strict=True))


def test_thinning_keeps_every_nth_state():
    every = samplers.run(kernel(), start(), 12, generator=seeded())
    third = samplers.run(kernel(), start(), 12, thin=3, generator=seeded())
    assert torch.equal(third.positions, every.positions[2::3])
    accepted = every.stats["accepted"].reshape(4, 3, 4).mean(1)
    torch.testing.assert_close(third.stats["accepted"], accepted)


def test_extending_equals_one_long_run():
    long = samplers.run(kernel(), start(), 20, num_warmup=50, thin=2, generator=seeded(3))
    short = samplers.run(kernel(), start(), 12, num_warmup=50, thin=2, generator=seeded(3))
    same(samplers.extend(short, 8), long)


def test_an_interrupted_run_resumes_draw_for_draw(tmp_path):
    whole = samplers.run(kernel(), start(), 30, num_warmup=60, thin=3, generator=seeded(5))

    def interrupt(step, state):
        if step == 60 + 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        samplers.run(
            kernel(), start(), 30, num_warmup=60, thin=3, generator=seeded(5), callback=interrupt,
            directory=tmp_path / "run", checkpoint_every=4,
        )  # fmt: skip
    resumed = samplers.resume(kernel(), tmp_path / "run")
    same(resumed, whole)
    assert resumed.kernel.step_size == whole.kernel.step_size
    assert torch.equal(resumed.kernel.scale, whole.kernel.scale)
    same(samplers.resume(kernel(), tmp_path / "run"), whole)


def test_draws_on_disk_equal_draws_in_memory(tmp_path):
    memory = samplers.run(kernel(), start(dtype=torch.float32), 10, generator=seeded())
    disk = samplers.run(kernel(), start(dtype=torch.float32), 10, generator=seeded(), directory=tmp_path)
    same(memory, disk)
    assert (tmp_path / "positions.npy").stat().st_size >= 10 * 4 * 3 * 4
    with pytest.raises(DomainError, match="not empty"):
        samplers.run(kernel(), start(), 10, directory=tmp_path)


def test_resume_refuses_strangers(tmp_path):
    with pytest.raises(DomainError, match="no checkpoint"):
        samplers.resume(kernel(), tmp_path)


@pytest.mark.parametrize("arguments", [{"num_steps": 0}, {"num_steps": 3, "thin": 4}, {"num_steps": 3, "thin": 0},
                                       {"num_steps": 3, "num_warmup": -1}])  # fmt: skip
def test_bad_counts(arguments):
    with pytest.raises(DomainError):
        samplers.run(kernel(), start(), **arguments)


def test_dual_averaging_finds_the_root_of_a_noisy_function():
    # Acceptance exp(-eps) is 0.8 at eps = -log 0.8.
    generator = torch.Generator().manual_seed(0)
    state = DualAveraging(log_start=2.0, target=0.8)
    for _ in range(3000):
        noise = 0.2 * float(torch.randn((), generator=generator))
        state = state.update(float(torch.exp(-torch.exp(torch.tensor(state.log_step)))) + noise)
    expected = float(torch.log(-torch.log(torch.tensor(0.8))))
    assert abs(state.log_mean - expected) < 0.1


def test_warm_up_reaches_the_target_acceptance_and_learns_the_scale():
    target = targets.Dirichlet([900.0, 60.0, 8.0, 0.7])
    hmc = samplers.MirroredHMC(target, mirror_maps.SimplexEntropy(target.domain))
    x = target.domain.interior_point().expand(64, -1)
    chain = samplers.run(hmc, x, 300, num_warmup=300, generator=seeded(1))
    assert abs(float(chain.stats["acceptance"].mean()) - 0.8) < 0.08
    learnt = chain.kernel.scale @ chain.kernel.scale.mT
    dual = mirror_maps.SimplexEntropy(target.domain).to_dual(target.sample(100_000, generator=seeded(2)))
    relative = torch.linalg.solve(torch.cov(dual.mT), learnt)
    assert torch.linalg.eigvals(relative).abs().sub(1).abs().max() < 0.5
    z = (chain.flatten().mean(0) - target.mean) / (target.variance / 2000).sqrt()
    assert z.abs().max() < 4.5


def test_without_warm_up_settings_stay():
    chain = samplers.run(kernel(step_size=0.3), start(), 5, generator=seeded())
    assert chain.kernel.step_size == 0.3
    assert chain.kernel.scale is None
