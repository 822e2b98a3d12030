"""Every configuration parses, runs with the smoke overlay, and follows the rules for such files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mirrorgen.cli import main
from mirrorgen.storage import load

ROOT = Path(__file__).resolve().parents[1] / "configs"
CONFIGS = sorted(
    p for p in ROOT.glob("*/*.yaml") if p.parent.name not in ("overlays", "policy")
)  # Agents: policy/test_rl_command.py.
OVERLAYS = sorted((ROOT / "overlays").glob("*.yaml"))
SMOKE = str(ROOT / "overlays" / "smoke.yaml")
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}-{p.stem}")


def test_there_are_configurations() -> None:
    assert {p.stem for p in CONFIGS} >= {"digits", "digits_simplex", "polytope10", "ball6", "toy2d", "simplex"}
    names = {p.stem for p in CONFIGS if p.parent.name == "diffusion"}
    assert names == {"box2d", "checkerboard", "digits", "patches", "simplex", "ball6", "polytope10"}
    assert {p.stem for p in OVERLAYS} == {"smoke", "gpu", "ddp"}


@each_config
def test_runs(path: Path, tmp_path: Path) -> None:
    cli = main(["fit", "--config", str(path), "--config", SMOKE, "--run_dir", str(tmp_path)])
    run = tmp_path / path.stem / "version_0"
    assert cli.trainer.global_step == 4
    assert cli.trainer.callback_metrics["sample/feasible_frac"] == 1
    assert (run / "metrics.csv").is_file()
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["trainer"]["max_steps"] == 4
    model = load(run / "checkpoints" / "last.ckpt")
    x = model.sample(16, steps=2)
    assert model.domain.contains(x).all()


@each_config
def test_prints_its_configuration(path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", str(path), "--print_config"])
    assert done.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    slot, model = {"flow": ("flow", "flows.MirrorFlow"), "diffusion": ("diffusion", "diffusion.ReflectedDiffusion")}[
        path.parent.name
    ]
    assert printed["model"]["init_args"][slot]["class_path"] == f"mirrorgen.{model}"


@pytest.mark.parametrize("path", [*CONFIGS, *OVERLAYS], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_follows_the_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    command = text.splitlines()[0]
    assert command.startswith("# mirrorgen fit --config configs/")
    assert all((ROOT.parent / named).is_file() for named in re.findall(r"configs/\S+\.yaml", command))
    assert path.name in command
    content = yaml.safe_load(text)
    if path in CONFIGS:
        assert isinstance(content["seed_everything"], int)
        assert not {"accelerator", "devices", "strategy", "logger", "default_root_dir"} & set(content["trainer"])


@pytest.fixture
def parsed(capsys: pytest.CaptureFixture) -> Callable[..., dict]:
    def parse(*args: str) -> dict:
        with pytest.raises(SystemExit):
            main(["fit", *args, "--print_config"])
        return yaml.safe_load(capsys.readouterr().out)

    return parse


def test_overlays_combine_with_a_configuration(parsed: Callable[..., dict]) -> None:
    digits = str(ROOT / "flow" / "digits.yaml")
    plain = parsed("--config", digits)
    for path in OVERLAYS:
        combined = parsed("--config", digits, "--config", str(path))
        assert combined["model"] == plain["model"]
        assert combined["trainer"] != plain["trainer"]
