"""The command line: help, errors in one line with status 2, sampling without Lightning, resuming, processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import mirrorgen
from mirrorgen.cli import main
from mirrorgen.flows import MirrorFlow
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.mirror_maps import BoxEntropy
from mirrorgen.nets import MLP
from mirrorgen.storage import save
from mirrorgen.training.command_line import suggest

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SIMPLEX, SMOKE = str(CONFIGS / "flow" / "simplex.yaml"), str(CONFIGS / "overlays" / "smoke.yaml")


def build(**net) -> MirrorFlow:
    torch.manual_seed(0)
    return MirrorFlow(BoxEntropy(Box(0.0, 1.0, dim=3)), MLP(3, hidden=(8,), **net))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save(build(num_classes=4), tmp_path / "model"))


def failing(capsys: pytest.CaptureFixture, *args: str) -> str:
    """The message of a command that must end with status 2."""
    with pytest.raises(SystemExit) as done:
        main(args)
    assert done.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in message
    return message


def test_help_and_version(capsys: pytest.CaptureFixture) -> None:
    for args in ([], ["--help"], ["-h"]):
        main(args)
        assert "mirrorgen sample --ckpt" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"mirrorgen {mirrorgen.__version__}\n"
    for command in ("fit", "sample"):
        with pytest.raises(SystemExit) as done:
            main([command, "--help"])
        assert done.value.code == 0
        assert "usage: mirrorgen" in capsys.readouterr().out


def test_installed_command_ends_with_status_zero(model: str, tmp_path: Path) -> None:
    out = tmp_path / "points.npy"
    command = Path(sys.executable).parent / "mirrorgen"
    options = ["--ckpt", model, "--num", "5", "--steps", "2", "--out", str(out)]
    done = subprocess.run([str(command), "sample", *options], capture_output=True, text=True, timeout=300)
    # The value of main would be printed, and count as a failure, if the command returned it.
    assert (done.returncode, done.stderr) == (0, "")
    assert np.load(out).shape == (5, 3)


def test_unknown_command(capsys: pytest.CaptureFixture) -> None:
    assert "unknown command 'fitt'" in failing(capsys, "fitt")


def test_sampling_needs_no_lightning(model: str, tmp_path: Path) -> None:
    out = tmp_path / "x.npy"
    code = (
        "import sys; from mirrorgen.cli import main\n"
        f"main(['sample', '--ckpt', {model!r}, '--num', '8', '--out', {str(out)!r}, '--steps', '2'])\n"
        "main(['--version'])\n"
        "print(*(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "8 points of 3 coordinates, 8 strictly inside" in done.stdout
    assert not {"lightning", "pytorch_lightning", "ot", "matplotlib"} & set(done.stdout.split())
    assert np.load(out).shape == (8, 3)


def test_formats_agree_and_seeds_repeat(model: str, tmp_path: Path) -> None:
    options = ["--ckpt", model, "--num", "10", "--steps", "3", "--quiet"]
    names = ["a.safetensors", "a.npy", "a.csv", "b.npy"]
    for name, seed in zip(names, "0001", strict=True):
        main(["sample", *options, "--seed", seed, "--out", str(tmp_path / name)])
    first = load_file(tmp_path / "a.safetensors")["x"]
    assert np.array_equal(first.numpy(), np.load(tmp_path / "a.npy"))
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, dtype=np.float32)
    assert np.array_equal(first.numpy(), table)
    assert not np.array_equal(first.numpy(), np.load(tmp_path / "b.npy"))


def test_options_reach_the_model(model: str, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    options = ["--steps", "4", "--method", "heun", "--t-end", "0.9", "--guidance-scale", "2", "--seed", "3"]
    main(["sample", "--ckpt", model, "--num", "5", "--out", str(out), "--condition", "3,1", *options])
    found = load_file(out)
    labels = torch.tensor([3, 1, 3, 1, 3])
    assert torch.equal(found["condition"], labels)
    expected = mirrorgen.load(model).sample(
        5,
        condition=labels,
        generator=torch.Generator().manual_seed(3),
        steps=4,
        method="heun",
        t_end=0.9,
        guidance_scale=2.0,
    )
    assert torch.equal(found["x"], expected)


def test_vector_conditions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = str(save(build(condition_dim=2), tmp_path / "vector"))
    out = str(tmp_path / "x.safetensors")
    main(["sample", "--ckpt", folder, "--num", "4", "--out", out, "--condition", "0.5,-1", "--steps", "2"])
    assert load_file(out)["condition"].tolist() == [[0.5, -1.0]] * 4
    short = ["sample", "--ckpt", folder, "--num", "4", "--out", out, "--condition", "1"]
    assert "needs 2 numbers" in failing(capsys, *short)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--ckpt": "nothing.ckpt"}, "there is no file or folder nothing.ckpt"),
        ({"--num": "0"}, "must be positive"),
        ({"--out": "x.txt"}, "must end in .safetensors, .npy, .csv"),
        ({"--condition": "9"}, "labels lie in 0..3"),
        ({"--condition": "three"}, "numbers separated by commas"),
        ({"--method": "leapfrog"}, "leapfrog"),
        ({"--t-end": "2"}, "t_end must lie in (0, 1]"),
        ({"--steps": "0"}, "steps"),
        ({"--device": "toaster"}, "toaster"),
    ],
)
def test_bad_options_of_sample(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch, change: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    options = {"--ckpt": model, "--num": "4", "--out": "x.npy"} | change
    text = failing(capsys, "sample", *(part for pair in options.items() for part in pair))
    assert text.startswith("mirrorgen sample: error: ")
    assert message in text
    assert sorted(tmp_path.iterdir()) == before


def test_failed_writing_leaves_nothing(model: str, tmp_path: Path, monkeypatch) -> None:
    def fail(path, *args) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("numpy.save", fail)
    out = tmp_path / "out" / "x.npy"
    out.parent.mkdir()
    out.write_bytes(b"earlier")
    with pytest.raises(OSError, match="disk full"):
        main(["sample", "--ckpt", model, "--num", "4", "--out", str(out), "--steps", "1"])
    assert [p.name for p in out.parent.iterdir()] == ["x.npy"]
    assert out.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--model.flow.mirror_map", "SimplexEntropie"], ["model.flow.mirror_map", "did you mean SimplexEntropy"]),
        (["--model.flow.net", "MPL"], ["model.flow.net", "'MPL'; did you mean MLP"]),
        (["--data", "Digitz"], ["'Digitz'; did you mean Digits"]),
        (["--model.lrr", "3"], ["model", "Option 'lrr' is not accepted"]),
        (["--model.lr", "fast"], ["model", "lr"]),
        (["--trainer.max_stepss", "3"], ["unrecognized arguments: --trainer.max_stepss"]),
        (["--model.flow.condition_dropout", "3"], ["condition_dropout must lie in [0, 1], got 3"]),
        (["--data.batch_size", "0"], ["batch_size and batches must be positive"]),
        (["--ema.decay", "2"], ["decay must lie in [0, 1)"]),
    ],
)
def test_bad_configurations(tmp_path: Path, capsys: pytest.CaptureFixture, args: list[str], parts: list[str]) -> None:
    text = failing(capsys, "fit", "--config", SIMPLEX, "--config", SMOKE, "--run_dir", str(tmp_path), *args)
    assert text.startswith("mirrorgen fit: error: ")
    assert all(part in text for part in parts), text


def test_missing_configuration(capsys: pytest.CaptureFixture) -> None:
    assert "nowhere.yaml" in failing(capsys, "fit", "--config", "nowhere.yaml")


def test_suggestions() -> None:
    assert suggest("boxentropy")[0] == "BoxEntropy"
    assert suggest("mirrorgen.flows.MirorFlow")[0] == "MirrorFlow"
    assert suggest("Qzxv") == []


def test_run_evaluate_resume(tmp_path: Path) -> None:
    common = ["--config", SIMPLEX, "--config", SMOKE, "--run_dir", str(tmp_path), "--name", "mine"]
    main(["fit", *common, "--ema.decay", "0.5"])
    run = tmp_path / "mine" / "version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["ema"]["decay"] == 0.5
    assert "val/loss" in (run / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert list(run.glob("events.out.tfevents.*"))
    last = str(run / "checkpoints" / "last.ckpt")
    first = main(["validate", *common, "--ckpt_path", last]).trainer.callback_metrics["val/loss"]
    assert torch.isfinite(first)
    assert "test/loss" in main(["test", *common, "--ckpt_path", last]).trainer.callback_metrics
    predicted = main(["predict", *common, "--ckpt_path", last, "--trainer.limit_predict_batches", "2"])
    log_prob = np.load(Path(predicted.trainer.log_dir) / "log_prob.npy")
    x = predicted.datamodule.points("test")[:64]
    assert np.allclose(log_prob, mirrorgen.load(last).log_prob(x).detach().numpy(), atol=1e-5)
    more = main(["fit", *common, "--ckpt_path", last, "--trainer.max_steps", "6"])
    assert more.trainer.global_step == 6
    # The saved configuration of a run is itself a configuration.
    again = main(["fit", "--config", str(run / "config.yaml"), "--run_dir", str(tmp_path / "again")])
    a, b = (torch.load(p, weights_only=True)["state_dict"] for p in (last, _last(again)))
    assert all(torch.equal(a[k], b[k]) for k in a)


def _last(cli) -> str:
    return str(Path(cli.trainer.log_dir) / "checkpoints" / "last.ckpt")


RANKS = """
import sys, torch
from mirrorgen.cli import main
cli = main(sys.argv[2:])
rank = cli.trainer.global_rank
loader = cli.trainer.train_dataloader
torch.save({"weights": cli.model.state_dict(), "raw": cli.trainer.optimizers[0].state_dict(),
            "rows": loader.rows(0), "world": loader.world_size}, f"{sys.argv[1]}/rank{rank}.pt")
"""


def test_two_processes(tmp_path: Path) -> None:
    """Both processes see their own share of the data and end with the same weights."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS, encoding="utf-8")
    overlay = str(CONFIGS / "overlays" / "ddp.yaml")
    args = ["fit", "--config", SIMPLEX, "--config", SMOKE, "--config", overlay, "--run_dir", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *args],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    a, b = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert a["world"] == b["world"] == 2
    assert not set(a["rows"].tolist()) & set(b["rows"].tolist())
    assert all(torch.equal(a["weights"][k], b["weights"][k]) for k in a["weights"])
    moments = [[s["exp_avg"] for s in r["raw"]["state"].values()] for r in (a, b)]
    assert all(torch.equal(m, n) for m, n in zip(*moments, strict=True))
    flow = mirrorgen.load(tmp_path / "simplex" / "version_0" / "checkpoints" / "last.ckpt")
    assert bool(flow.dual_transform.fitted)
