"""Training 2N steps equals N steps, resuming, N steps: weights, averages, optimiser, data and noise, bit for bit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from mirrorgen.flows import MirrorFlow
from mirrorgen.nets import MLP
from mirrorgen.training import FlowTask
from tests.training.conftest import build_data, build_flow, build_task, equal_states

# 200 points in batches of 32 make epochs of seven steps.
EPOCH = 7


class Recorder(Callback):
    """Keeps what every training step saw and said."""

    def __init__(self) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append((batch[0].clone(), outputs["loss"].clone()))


def disturbed(task: FlowTask) -> FlowTask:
    """The task with other weights and another state of the global generator: everything must come from the file."""
    with torch.no_grad():
        for p in task.parameters():
            p.add_(1.0)
    torch.manual_seed(99)
    return task


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(a: dict, b: dict) -> None:
    assert a["global_step"] == b["global_step"]
    assert equal_states(a["state_dict"], b["state_dict"])
    assert equal_states(a["current_model_state"], b["current_model_state"])
    assert equal_states(a["averaging_state"], b["averaging_state"])
    first, second = (c["optimizer_states"][0]["state"] for c in (a, b))
    assert all(equal_states(first[i], second[i]) for i in first)
    assert a["lr_schedulers"] == b["lr_schedulers"]
    assert a["loops"]["fit_loop"]["state_dict"] == b["loops"]["fit_loop"]["state_dict"]


@pytest.mark.parametrize("half", [EPOCH - 3, EPOCH, EPOCH + 2])
def test_saved_after_training(trainer: Callable[..., Trainer], tmp_path: Path, half: int) -> None:
    options = {"schedule": "cosine", "warmup_steps": 3}
    whole, rest = Recorder(), Recorder()
    long = trainer(2 * half, whole)
    long.fit(build_task(**options), build_data())
    long.save_checkpoint(tmp_path / "long.ckpt")
    # The cosine ends at max_steps, so the first half has to know the whole length and be stopped.
    short = trainer(2 * half, Stop(half))
    short.fit(build_task(**options), build_data())
    short.save_checkpoint(tmp_path / "short.ckpt")
    resumed = trainer(2 * half, rest)
    resumed.fit(disturbed(build_task(**options)), build_data(), ckpt_path=tmp_path / "short.ckpt")
    resumed.save_checkpoint(tmp_path / "resumed.ckpt")
    assert_same(read(tmp_path / "long.ckpt"), read(tmp_path / "resumed.ckpt"))
    assert len(rest.seen) == half
    for (x, loss), (y, other) in zip(whole.seen[half:], rest.seen, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(loss, other)


class Stop(Callback):
    """Stops training after `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


class SetAside(Callback):
    """Copies the run's checkpoint once `steps` steps are done and training goes on."""

    def __init__(self, steps: int, path: Path) -> None:
        self.steps, self.path = steps, path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.steps:
            shutil.copy(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt", self.path)


@pytest.mark.parametrize("at", [3, EPOCH, EPOCH + 2])
def test_saved_during_training(trainer: Callable[..., Trainer], tmp_path: Path, at: int) -> None:
    """From a checkpoint that was written while training went on, as after a crash."""
    long = trainer(2 * at, SetAside(at, tmp_path / "middle.ckpt"), save_every=at)
    long.fit(build_task(), build_data())
    long.save_checkpoint(tmp_path / "long.ckpt")
    assert read(tmp_path / "middle.ckpt")["global_step"] == at
    resumed = trainer(2 * at)
    resumed.fit(disturbed(build_task()), build_data(), ckpt_path=tmp_path / "middle.ckpt")
    resumed.save_checkpoint(tmp_path / "resumed.ckpt")
    assert_same(read(tmp_path / "long.ckpt"), read(tmp_path / "resumed.ckpt"))


class Noisy(MLP):
    """A network that draws from the global generator."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, hidden=(16,))
        self.nonlinearity = nn.Sequential(nn.ELU(), nn.Dropout(0.5))


def test_networks_with_dropout(trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch) -> None:
    # Specifications name classes of the package only.
    monkeypatch.setattr(Noisy, "__module__", "mirrorgen.nets.noisy")

    def task() -> FlowTask:
        torch.manual_seed(5)
        return FlowTask(MirrorFlow(build_flow().mirror_map, Noisy(2)))

    long, short, resumed = trainer(6), trainer(3), trainer(6)
    long.fit(task(), build_data())
    short.fit(task(), build_data())
    short.save_checkpoint(tmp_path / "short.ckpt")
    last = task()
    resumed.fit(disturbed(last), build_data(), ckpt_path=tmp_path / "short.ckpt")
    assert equal_states(long.lightning_module.state_dict(), last.state_dict())


def test_resuming_keeps_the_dual_transform(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    first = trainer(2)
    first.fit(build_task(), build_data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    fitted = first.lightning_module.flow.dual_transform.shift.clone()
    again = trainer(4)
    task = build_task()
    again.fit(task, build_data(seed=9), ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(task.flow.dual_transform.shift, fitted)
