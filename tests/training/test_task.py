"""The task: plain hyper-parameters, loading, learning, schedules, precision, other loaders."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset

import mirrorgen
from mirrorgen.errors import DomainError
from mirrorgen.flows import MirrorFlow
from mirrorgen.geometry.domains import Euclidean
from mirrorgen.geometry.mirror_maps import Quadratic
from mirrorgen.nets import MLP
from mirrorgen.storage import load, save
from mirrorgen.training import Checkpoint, FlowTask, SampleFigure
from mirrorgen.training.schedule import learning_rate_factor
from tests.training.conftest import build_data, build_flow, build_task, equal_states


def test_hyper_parameters_are_plain_data() -> None:
    plain = dict(build_task(schedule="step").hparams)
    assert json.loads(json.dumps(plain)) == plain
    again = FlowTask(**plain)
    assert again.hparams == build_task(schedule="step").hparams
    assert equal_states(again.flow.mirror_map.state_dict(), build_flow().mirror_map.state_dict())


def test_every_way_of_loading_agrees(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    fit = trainer(3)
    task = build_task()
    fit.fit(task, build_data())
    path = tmp_path / "run1" / "checkpoints" / "last.ckpt"
    torch.load(path, weights_only=True)
    flow = mirrorgen.load(path)
    assert not flow.training
    assert equal_states(flow.state_dict(), task.flow.state_dict())
    assert equal_states(FlowTask.load_from_checkpoint(path).state_dict(), task.state_dict())
    raw = mirrorgen.load(path, ema=False)
    assert not torch.equal(raw.net.output.weight, flow.net.output.weight)
    exported = mirrorgen.load(save(flow, tmp_path / "exported"))
    assert equal_states(exported.state_dict(), flow.state_dict())
    draw = [m.sample(50, generator=torch.Generator().manual_seed(1), steps=5) for m in (flow, exported)]
    assert torch.equal(*draw)


def test_double_precision_survives_export(tmp_path: Path) -> None:
    flow = build_flow().double()
    assert load(save(flow, tmp_path / "m")).sample(3, steps=2).dtype == torch.float64


def test_learns_a_mean(trainer: Callable[..., Trainer]) -> None:
    task, data = build_task(), build_data(batch_size=128, batches_per_epoch=100)
    losses = []
    for steps in (1, 300):
        fit = trainer(steps, num_sanity_val_steps=0)
        fit.fit(task, data)
        losses.append(fit.validate(task, data, verbose=False)[0]["val/loss"])
    assert losses[1] < 0.8 * losses[0]
    x = task.flow.sample(2000, generator=torch.Generator().manual_seed(0))
    assert task.flow.mirror_map.domain.contains(x).all()
    assert torch.allclose(x.mean(0), data.points("test").mean(0), atol=0.15)
    log_prob = torch.cat(fit.predict(task, data))
    assert log_prob.shape == (64,)
    # The uniform law on this triangle of area about 4 has log-density -1.4.
    assert log_prob.mean() > -1.2


def test_validation_noise_is_fixed(trainer: Callable[..., Trainer]) -> None:
    fit, task = trainer(1), build_task()
    fit.fit(task, build_data())
    values = [fit.validate(task, build_data(), verbose=False)[0]["val/loss"] for _ in range(2)]
    assert values[0] == values[1]


def test_noise_follows_the_global_seed(trainer: Callable[..., Trainer]) -> None:
    weights = []
    for seed in (1, 1, 2):
        task = build_task()
        torch.manual_seed(seed)
        trainer(1).fit(task, build_data())
        weights.append(task.flow.net.output.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("wrap", ["points", "tuples", "labels"])
def test_other_loaders(trainer: Callable[..., Trainer], wrap: str) -> None:
    x = build_data().points()
    if wrap == "points":
        loader = DataLoader(x, batch_size=50)
    elif wrap == "tuples":
        loader = DataLoader(TensorDataset(x), batch_size=50)
    else:
        loader = DataLoader(TensorDataset(x, torch.zeros(len(x), dtype=torch.long)), batch_size=50)
    flow = build_flow()
    if wrap == "labels":
        flow.net = mirrorgen.nets.MLP(2, hidden=(16,), num_classes=2)
    task = FlowTask(flow)
    trainer(2).fit(task, loader, loader)
    y = flow.mirror_map.to_dual(x.double())
    assert torch.allclose(flow.dual_transform.shift.double(), y.quantile(0.5, dim=0), rtol=1e-5, atol=1e-5)


def test_mixed_precision_keeps_geometry_exact(trainer: Callable[..., Trainer]) -> None:
    task = build_task()
    seen = []
    task.flow.net.register_forward_hook(lambda net, args, out: seen.append(args[0].dtype))
    products = []
    task.flow.net.output.register_forward_hook(lambda net, args, out: products.append(out.dtype))
    fit = trainer(3, precision="bf16-mixed", gradient_clip_val=1.0)
    fit.fit(task, build_data())
    assert set(products) >= {torch.bfloat16}
    assert set(seen) == {torch.float32}
    assert {p.dtype for p in task.parameters()} == {torch.float32}
    assert task.flow.mirror_map.domain.A.dtype == torch.float64
    assert fit.validate(task, build_data(), verbose=False)[0]["val/loss"] < 10


def test_figure_and_best_checkpoint(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    fit = trainer(
        4,
        SampleFigure(num=16, steps=2),
        Checkpoint(every_n_train_steps=2, monitor="val/loss"),
        val_check_interval=2,
        check_val_every_n_epoch=None,
    )
    fit.fit(build_task(), build_data())
    written = sorted(p.relative_to(tmp_path / "run1").as_posix() for p in tmp_path.rglob("*.*") if p.is_file())
    assert "samples/step-000002.png" in written
    assert "samples/step-000004.png" in written
    assert "checkpoints/last.ckpt" in written
    assert any(name.startswith("checkpoints/best-") for name in written)
    assert fit.callback_metrics["sample/feasible_frac"] == 1
    assert fit.callback_metrics["sample/worst_slack"] > 0


def test_sets_without_walls_have_no_slack_to_report(trainer: Callable[..., Trainer]) -> None:
    free = MirrorFlow(Quadratic(Euclidean(2)), MLP(2, hidden=(8,)))
    fit = trainer(2, val_check_interval=2, check_val_every_n_epoch=None)
    fit.fit(FlowTask(free), build_data())
    assert fit.callback_metrics["sample/feasible_frac"] == 1
    assert "sample/worst_slack" not in fit.callback_metrics


def test_figures_can_be_rarer(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    options = {"val_check_interval": 2, "check_val_every_n_epoch": None}
    trainer(6, SampleFigure(num=16, steps=2, every_n_epochs=2), **options).fit(build_task(), build_data())
    assert [p.name for p in tmp_path.rglob("*.png")] == ["step-000004.png"]


def test_schedules() -> None:
    def factors(schedule, steps, **options):
        settings = {"warmup_steps": 0, "total_steps": 10, "decay": 0.5, "decay_every": 2} | options
        return [learning_rate_factor(k, schedule=schedule, **settings) for k in range(steps)]

    assert factors("constant", 5, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors("step", 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    cosine = factors("cosine", 11)
    assert cosine[0] == 1
    assert cosine[5] == pytest.approx(0.5)
    assert cosine[10] == pytest.approx(0)
    assert factors("cosine", 4, warmup_steps=40) == [k / 40 for k in (1, 2, 3, 4)]
    with pytest.raises(DomainError, match="max_steps"):
        factors("cosine", 1, total_steps=-1)


def test_loading_rejects_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="there is no file"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(DomainError, match=r"config\.json is missing"):
        load(tmp_path)
    (tmp_path / "junk.ckpt").write_bytes(b"junk")
    with pytest.raises(DomainError, match="not a readable checkpoint"):
        load(tmp_path / "junk.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(DomainError, match="no specification"):
        load(tmp_path / "other.ckpt")
    folder = save(build_flow(), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["model"]["class_path"] = "os.system"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(DomainError, match="not allowed"):
        load(folder)
