"""``mirrorgen rl``: runs, files, resumption, errors, and every configuration of an agent."""

import csv
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from mirrorgen.cli import main
from mirrorgen.policy import MDPO
from mirrorgen.policy.agents.training import AgentRun

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs" / "policy").glob("*.yaml"))
SHORT = ["--total_timesteps", "600", "--eval_every", "300", "--eval_episodes", "2", "--progress", "false"]
SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
AGENT = ["--agent", "MDPO", *(f"--agent.{k}={v}" for k, v in SMALL.items())]


def test_there_are_configurations():
    assert {p.stem for p in CONFIGS} >= {
        "mdpo_cartpole", "mdpo_acrobot", "mdpo_pendulum", "mdpo_hopper", "mdpo_halfcheetah", "softmdpo_pendulum",
        "driftpo_cartpole", "mviq_cartpole", "staq_cartpole",
    }  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configurations(path, tmp_path, capsys):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# mirrorgen rl --config configs/policy/{path.name}\n")
    content = yaml.safe_load(text)
    if content["environment"] in ("Hopper-v5", "HalfCheetah-v5") and find_spec("mujoco") is None:
        # The simulator is no dependency of the tests; without it the command says what to install.
        with pytest.raises(SystemExit):
            main(["rl", "--config", str(path), *SHORT, "--run_dir", str(tmp_path)])
        assert "gymnasium[mujoco]" in capsys.readouterr().err
        return
    summary = main(["rl", "--config", str(path), *SHORT, "--run_dir", str(tmp_path)])
    assert summary[0]["environment"] == content["environment"]
    assert summary[0]["timesteps"] >= 600
    folder = tmp_path / path.stem
    assert (folder / "curves.png").stat().st_size > 1000
    assert {"model.zip", "evaluations.csv", "summary.json"} <= {p.name for p in (folder / "seed_0").iterdir()}


def test_seeds_and_resumption(tmp_path):
    common = [
        "rl",
        *AGENT,
        "--environment",
        "CartPole-v1",
        "--num_envs",
        "2",
        "--run_dir",
        str(tmp_path),
        "--name",
        "a",
    ]
    common += ["--normalize", "true"]
    first = main([*common, *SHORT, "--num_seeds", "2"])
    assert [s["seed"] for s in first] == [0, 1]
    seed = tmp_path / "a" / "seed_0"
    with (seed / "evaluations.csv").open() as file:
        before = list(csv.reader(file))
    assert len(before) == 3  # Two evaluations under a header.
    with pytest.raises(SystemExit) as done:
        main([*common, *SHORT])
    assert done.value.code == 2
    longer = ["--total_timesteps", "1000", "--eval_every", "300", "--eval_episodes", "2", "--progress", "false"]
    second = main([*common, *longer, "--resume", "true"])
    assert second[0]["timesteps"] >= 1000
    with (seed / "evaluations.csv").open() as file:
        after = list(csv.reader(file))
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert json.loads((seed / "summary.json").read_text())["timesteps"] == second[0]["timesteps"]
    assert len(list(seed.glob("log_*/progress.csv"))) == 2
    assert not list(seed.glob("partial*"))


def test_a_run_is_a_function_of_its_seed(tmp_path):
    def run(name, seed):
        one = AgentRun(lambda p, e: MDPO(p, e, **SMALL, device="cpu"), "CartPole-v1", tmp_path / name, num_envs=2,
                       total_timesteps=400, eval_every=200, eval_episodes=2, seed=seed)  # fmt: skip
        one.train()
        return one.curve()

    a, b, c = run("a", 0), run("b", 0), run("c", 1)
    for key in a:
        assert np.array_equal(a[key], b[key])
    assert any(not np.array_equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "MDOP", "--environment", "CartPole-v1"], "did you mean MDPO"),
        (["--agent", "MDPO", "--agent.foo", "3", "--environment", "CartPole-v1"], "foo"),
        (["--agent", "MDPO", "--environment", "CartPool-v1"], "CartPool-v1"),
        (["--agent", "MDPO", "--agent.step_size", "0", "--environment", "CartPole-v1"], "step_size"),
        (["--agent", "SoftMDPO", "--environment", "CartPole-v1"], "Box of actions"),
        ([*AGENT, "--environment", "CartPole-v1", "--num_envs", "0"], "num_envs"),
        ([*AGENT, "--environment", "CartPole-v1", "--num_seeds", "0"], "num_seeds"),
        ([*AGENT], "environment"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["rl", *arguments, "--run_dir", str(tmp_path), "--progress", "false"])
    assert done.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.rglob("model.zip"))


def test_without_the_extra(monkeypatch, capsys):
    for name in [m for m in sys.modules if m.startswith("mirrorgen.policy.agents")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(SystemExit):
        main(["rl", "--agent", "MDPO", "--environment", "CartPole-v1"])
    assert "mirrorgen[rl]" in capsys.readouterr().err
