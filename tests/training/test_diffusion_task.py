"""Training a reflected diffusion: learning, files, resumption, the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

import mirrorgen
from mirrorgen.cli import main
from mirrorgen.data import Synthetic, bimodal
from mirrorgen.diffusion import GeometricSchedule, ReflectedDiffusion
from mirrorgen.nets import MLP
from mirrorgen.training import DiffusionTask
from tests.training.conftest import equal_states


def build_task(**options) -> DiffusionTask:
    seed_everything(5, verbose=False)
    target = bimodal()
    net = MLP(2, hidden=(32, 32), activation="silu", time_embedding=8, cosines=4)
    model = ReflectedDiffusion(target.domain, net, GeometricSchedule(0.02, 1.5))
    return DiffusionTask(model, **{"lr": 5e-3, **options})


def build_data() -> Synthetic:
    return Synthetic(bimodal(), num_train=2000, num_eval=256, batch_size=256, batches_per_epoch=100)


def test_learns_and_every_way_of_loading_agrees(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    task, data, losses = build_task(), build_data(), []
    for steps in (1, 300):
        fit = trainer(steps, num_sanity_val_steps=0)
        fit.fit(task, data)
        losses.append(fit.validate(task, data, verbose=False)[0]["val/loss"])
    assert losses[1] < 0.9 * losses[0]
    path = tmp_path / "run2" / "checkpoints" / "last.ckpt"
    model = mirrorgen.load(path)
    assert isinstance(model, ReflectedDiffusion)
    assert equal_states(model.state_dict(), task.diffusion.state_dict())
    again = mirrorgen.load(mirrorgen.save(model, tmp_path / "exported"))
    draws = [m.sample(500, steps=20, generator=torch.Generator().manual_seed(1)) for m in (model, again)]
    assert torch.equal(*draws)
    assert model.domain.contains(draws[0]).all()
    # The exact mean is 0.6 in both coordinates, up to truncation.
    assert torch.allclose(draws[0].mean(0), data.points("test").mean(0), atol=0.1)
    assert torch.cat(fit.predict(task, data)).shape == (256,)


def test_resumed_run_equals_an_uninterrupted_one(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    whole = build_task()
    trainer(6).fit(whole, build_data())
    first = build_task()
    trainer(3, save_every=3).fit(first, build_data())
    second = build_task()
    resumed = tmp_path / "run2" / "checkpoints" / "last.ckpt"
    trainer(6).fit(second, build_data(), ckpt_path=resumed, weights_only=True)
    assert equal_states(whole.state_dict(), second.state_dict())


def test_samples_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = mirrorgen.save(build_task().diffusion, tmp_path / "m")
    common = ["sample", "--ckpt", str(folder), "--num", "20", "--quiet"]
    x = main([*common, "--out", str(tmp_path / "x.npy"), "--steps", "5", "--method", "em", "--grid", "log"])
    assert x.shape == (20, 2)
    assert "20 strictly inside" in capsys.readouterr().out
    for flag, value, message in (("--t-end", "0.5", "no --t-end"), ("--method", "midpoint", "unknown sampling method")):
        with pytest.raises(SystemExit):
            main([*common, "--out", str(tmp_path / "y.npy"), flag, value])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "y.npy").exists()
