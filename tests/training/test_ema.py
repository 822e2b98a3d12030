"""The moving average: its formula, constant buffers, and which weights are where."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from mirrorgen.errors import DomainError
from mirrorgen.training import EMA
from tests.training.conftest import build_data, build_task, equal_states


class Trace(Callback):
    """Raw weights after every step, and the weights that validation sees at both ends."""

    def __init__(self) -> None:
        self.raw: list[dict] = []
        self.validating: list[dict] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.raw.append({k: p.detach().clone() for k, p in pl_module.named_parameters()})

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            self.validating.append({k: p.detach().clone() for k, p in pl_module.named_parameters()})


def reference(raw: list[dict], decay: float) -> dict:
    """The recursion written out in double precision; the average starts at the weights of the first step."""
    average = {k: p.double() for k, p in raw[0].items()}
    for n, weights in enumerate(raw[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        average = {k: d * a + (1 - d) * weights[k].double() for k, a in average.items()}
    return average


def test_averages_by_the_formula(trainer: Callable[..., Trainer]) -> None:
    trace = Trace()
    fit = trainer(6, trace)
    fit.callbacks[1].decay = 0.3
    task = build_task()
    fit.fit(task, build_data())
    expected = reference(trace.raw, 0.3)
    for name, p in task.named_parameters():
        assert torch.allclose(p.double(), expected[name], rtol=1e-6, atol=1e-7)
        assert not torch.allclose(p, trace.raw[-1][name])


@pytest.mark.parametrize("first", [True, False])
def test_validation_sees_the_average_until_its_end(trainer: Callable[..., Trainer], first: bool) -> None:
    trace = Trace()
    fit = trainer(4, *([trace] if first else []), val_check_interval=2, check_val_every_n_epoch=None)
    if not first:
        fit.callbacks.insert(-1, trace)
    fit.fit(build_task(), build_data())
    assert len(trace.validating) == 2
    for seen, steps in zip(trace.validating, (2, 4), strict=True):
        expected = reference(trace.raw[:steps], 0.999)
        assert all(torch.allclose(seen[k].double(), expected[k], rtol=1e-6, atol=1e-7) for k in seen)


def test_buffers_stay_put(trainer: Callable[..., Trainer]) -> None:
    """A polytope's A and b must not move, and the fitted transform must reach the averaged model."""
    task = build_task()
    domain = task.flow.mirror_map.domain
    before = {k: v.clone() for k, v in domain.state_dict().items()}
    fit = trainer(30)
    fit.fit(task, build_data())
    assert equal_states(before, domain.state_dict())
    averaged = fit.callbacks[0]._average_model.module
    assert equal_states(dict(averaged.named_buffers()), dict(task.named_buffers()))
    assert bool(averaged.flow.dual_transform.fitted)


def test_checkpoint_tells_averaged_from_raw(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trace = Trace()
    fit = trainer(5, trace)
    task = build_task()
    fit.fit(task, build_data())
    fit.save_checkpoint(tmp_path / "end.ckpt")
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert equal_states(saved["state_dict"], task.state_dict())
    raw = {k: v for k, v in saved["current_model_state"].items() if k in trace.raw[-1]}
    assert equal_states(raw, trace.raw[-1])


def test_rejects_nonsense() -> None:
    with pytest.raises(DomainError, match="decay must lie in"):
        EMA(decay=1.0)
