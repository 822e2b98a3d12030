"""Every example runs."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def gallery(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(EXAMPLES / "gallery"))
    return runpy.run_path(str(EXAMPLES / "gallery" / "run.py"), run_name="gallery")


def test_gallery_draws_every_map(gallery, tmp_path, capsys):
    picture = gallery["main"](["--quick", "--out", str(tmp_path / "new")])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out


def test_gallery_shows_the_whole_catalogue(gallery):
    from mirrorgen import mirror_maps

    shown = {type(m).__name__ for row in gallery["catalogue"]() for p in row.panels for m in p.mirror_map.modules()}
    abstract = {"MirrorMap", "SeparableMap"}
    classes = {name for name in mirror_maps.__all__ if isinstance(getattr(mirror_maps, name), type)}
    assert classes - abstract <= shown


def test_gallery_lines_keep_their_dual_coordinate(gallery):
    import torch

    for panel in (p for row in gallery["catalogue"]() for p in row.panels if p.frame is None):
        first, second = gallery["grid_lines"](panel, 9)
        for lines, coordinate in ((first, 0), (second, 1)):
            # Next to the middle of a line: at its far ends the primal point has lost digits of the dual one.
            near = torch.where(torch.isnan(lines[:, 3]), lines[:, 5], lines[:, 3])
            y = panel.mirror_map.to_dual(panel.mirror_map.domain.from_chart(near))
            torch.testing.assert_close(y[:, coordinate], panel.levels, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("script", "arguments", "written"),
    [
        ("quickstart/run.py", ["--num", "40"], ["digits.png", "metrics.json", "metrics.csv", "samples.safetensors"]),
        ("feasibility/run.py", [], ["feasibility.csv"]),
        ("mirror_flow_matching/polytope10.py", ["--seeds", "1", "--runs", "runs"], ["polytope10.csv"]),
        ("mirror_flow_matching/tables.py", ["--seeds", "1"], ["tables_seeds.csv", "tables.csv", "tables.png"]),
        ("mirror_flow_matching/toy.py", [], ["toy_seeds.csv", "toy.csv", "toy.png"]),
        ("mirror_flow_matching/sweep.py", [], ["sweep_tails.csv", "sweep_seeds.csv", "sweep.csv", "sweep.png"]),
        (
            "mirror_flow_matching/benchmark.py",
            ["--seeds", "1"],
            ["benchmark.csv", "benchmark_seeds.csv", "benchmark.png"],
        ),
        (
            "mirror_flow_matching/few_steps.py",
            ["--seeds", "1"],
            ["few_steps.csv", "few_steps_seeds.csv", "latency.csv", "few_steps.png"],
        ),
        (
            "mirror_flow_matching/learned_map.py",
            ["--seeds", "1"],
            ["learned_map.csv", "learned_map_seeds.csv", "learned_map.png"],
        ),
        ("mirror_flow_matching/watermark.py", [], ["watermark.csv", "watermark.png"]),
        ("mirror_flow_matching/watermark_detection.py", [], ["watermark_detection.csv"]),
        ("mirror_flow_matching/digits.py", ["--seeds", "1"], ["digits.csv", "digits_bits.csv", "digits.png"]),
        ("feasibility/samplers.py", [], ["samplers.csv"]),
        ("exactness/run.py", ["--kernels", "HMC", "Dikin", "unadjusted"], ["exactness.csv"]),
        ("bregman_langevin/laplace.py", [], ["laplace.csv", "laplace.png"]),
        ("bregman_langevin/sparse_logistic.py", [], ["sparse_logistic.csv", "sparse_logistic.png"]),
        ("bregman_langevin/mla_bias.py", [], ["mla_bias.csv", "mla_bias.png"]),
        ("polytopes/conditioning.py", [], ["conditioning.csv"]),
        ("polytopes/uniform.py", [], ["uniform.csv", "uniform.png"]),
        ("polytopes/truncated_normal.py", [], ["truncated_normal.csv", "truncated_normal.png"]),
        ("mirrored_stein/simplex.py", [], ["simplex.csv", "simplex.png"]),
        ("mirrored_stein/selective_density.py", [], ["selective_density.csv", "selective_density.png"]),
        ("mirrored_stein/uniform_square.py", [], ["uniform_square.csv", "uniform_square.png"]),
        ("mirrored_stein/logistic_regression.py", [], ["logistic_regression.csv", "logistic_regression.png"]),
        ("mirrored_stein/coverage.py", [], ["coverage.csv", "coverage.png"]),
        ("mirrored_stein/intervals.py", [], ["intervals.csv", "intervals.png"]),
        ("reflected_diffusion/run.py", ["--only", "kernels"], ["kernels.csv", "truncation.csv", "kernels.png"]),
        ("reflected_diffusion/order.py", [], ["order.csv", "order.png"]),
        ("reflected_diffusion/inside.py", [], ["inside.csv", "billiard.csv"]),
        ("reflected_diffusion/patches.py", [], ["patches.csv", "patches.png"]),
        ("reflected_diffusion/order_domains.py", [], ["order_domains.csv", "order_domains.png"]),
        ("reflected_diffusion/domains.py", [], ["domains.csv", "domains.png"]),
        ("reflected_diffusion/published.py", [], ["published.csv"]),
        ("reflected_diffusion/simplex.py", [], ["simplex.csv", "simplex.png"]),
        ("reflected_diffusion/digits.py", [], ["digits.csv", "digits_bits.csv", "digits.png"]),
        (
            "policy/tabular.py",
            [],
            [
                *[
                    f"tabular_{n}.csv"
                    for n in ("rates", "bounds", "entropy", "errors", "constrained", "crowd", "linear")
                ],
                "tabular.png",
            ],
        ),
        (
            "policy/learned.py",
            [],
            ["learned_potentials.csv", "learned_visits.csv", "learned_drifts.csv", "learned.png"],
        ),
        (
            "policy/games.py",
            [],
            [
                *[f"games_{n}.csv" for n in ("behavioural", "dilated", "normal", "qre", "search", "speed")],
                *["games.png", "games_normal.png"],
            ],
        ),
        (
            "mirror_sinkhorn/run.py",
            [],
            [
                "linear_steps.csv",
                "linear_solvers.csv",
                "linear.png",
                "quadratic.csv",
                "quadratic.png",
                "graph_matching.csv",
                "graph_matching_recovery.csv",
                "graph_matching.png",
            ],
        ),
        (
            "online/run.py",
            [],
            [
                *[f"{n}.{kind}" for n in ("bounds", "curved", "delays") for kind in ("csv", "png")],
                *[f"{n}.{kind}" for n in ("fixed_point", "parameter_free", "robustness") for kind in ("csv", "png")],
                *[f"{n}.{kind}" for n in ("sample_weights", "spectral", "surrogates") for kind in ("csv", "png")],
                *["curved_inequality.csv", "delays_bandits.csv", "parameter_free_descent.csv"],
            ],
        ),
        ("policy/agent_settings.py", [], ["agent_settings.csv"]),
        (
            "topology/run.py",
            [],
            [f"{n}.{kind}" for n in ("compliance", "mesh", "mechanism", "self_load") for kind in ("csv", "png")],
        ),
        ("policy/agents.py", ["--only", "inner"], ["agents.csv", "agents_seeds.csv", "agents.png"]),
        ("policy/value_agents.py", ["--only", "DQN,StaQ"], ["value_agents.csv", "value_agents.png"]),
        ("policy/neural_games.py", ["--only", "kuhn"], ["neural_games.csv", "neural_games.png"]),
        ("policy/preference.py", [], ["preference.csv", "preference_average.csv", "preference.png"]),
        ("policy/preference_language.py", [], ["preference_language.csv"]),
        (
            "reflected_diffusion/toy2d.py",
            [],
            ["toy2d.csv", "toy2d_density.csv", "toy2d_ablation.csv", "toy2d.png", "toy2d_ablation.png"],
        ),
    ],
)
def test_studies_run(script, arguments, written, tmp_path):
    command = [sys.executable, str(EXAMPLES / script), "--quick", "--out", str(tmp_path / "out"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in written:
        assert (tmp_path / "out" / name).stat().st_size > 0
