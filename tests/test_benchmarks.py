"""The benchmarks run; their correctness columns are asserted, their times never."""

import csv

import pytest

zuko = pytest.importorskip("zuko")

from benchmarks import agents, flow, flow_peers, mirror_maps, optim, samplers, transforms, transport  # noqa: E402
from benchmarks.__main__ import main  # noqa: E402
from benchmarks.samplers.bars import verdicts  # noqa: E402
from benchmarks.samplers.scoring import SamplerRow  # noqa: E402
from benchmarks.timing import interleaved  # noqa: E402

TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def check(rows, tolerance=TOLERANCE):
    assert rows
    for row in rows:
        assert row.seconds > 0, row
        assert row.ratio > 0, row
        assert row.error is None or row.error <= tolerance[row.dtype], row


def test_mirror_maps_are_correct_where_they_are_timed():
    rows = mirror_maps.run(quick=True)
    check(rows)
    assert {row.contender for row in rows} == {"checked", "unchecked"}
    assert all(row.feasible == 1.0 for row in rows if row.operation == "to_primal")


def test_a_training_step_is_what_one_writes_by_hand():
    rows = flow_peers.run(quick=True)
    check([row for row in rows if row.contender == "by hand"], {"float32": 1e-5})
    assert {row.operation for row in rows} == {"training step", "sample", "exact transport"}
    assert all(row.feasible == 1.0 for row in rows if row.operation == "sample" and row.contender == "mirrorgen")


def test_every_map_is_timed():
    from mirrorgen import mirror_maps as catalogue

    timed = {row.name.split(",")[0] for row in mirror_maps.run(quick=True)}
    classes = {name for name in catalogue.__all__ if isinstance(getattr(catalogue, name), type)}
    assert classes - {"MirrorMap", "SeparableMap"} <= timed


def test_transforms_are_correct_where_they_are_timed():
    rows = transforms.run(quick=True)
    ours = [row for row in rows if "torch" not in row.contender and "zuko" not in row.contender]
    check(ours)
    assert all(row.feasible == 1.0 for row in ours if row.operation == "forward")
    assert {row.name for row in rows if "zuko" in row.contender}
    assert len(rows) > len(ours)


def test_flow_shares():
    rows = flow.run(quick=True)
    check(rows)
    assert all(row.feasible == 1.0 for row in rows if row.feasible is not None)
    assert {row.operation for row in rows} == {"training step", "encode", "sample", "decode"}


def test_command_line_writes_a_table_and_a_file(tmp_path, capsys):
    main(["flow", "--quick", "--out", str(tmp_path)])
    assert flow.TITLE in capsys.readouterr().out
    lines = (tmp_path / "flow.csv").read_text().splitlines()
    assert lines[0] == "# command: python -m benchmarks flow --threads 1 --quick"
    assert lines[1].startswith("# torch 2") or lines[1].startswith("# torch ")
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert {"name", "dtype", "shape", "seconds", "ratio", "error"} <= set(rows[0])


def test_command_line_names_the_benchmarks_it_knows(capsys):
    with pytest.raises(SystemExit):
        main(["flows"])
    assert "unknown benchmark flows; choose from mirror_maps, transforms, flow, samplers" in capsys.readouterr().err


def test_samplers_are_correct_where_they_are_timed():
    rows = samplers.run(quick=True)
    assert {"MirroredHMC", "CoordinateHitAndRun", "torch by hand"} <= {row.contender for row in rows}
    for row in rows:
        assert row.seconds_per_draw > 0, row
        assert row.inside == 1.0, row
        assert row.max_z < 6, row
    for problem in {row.problem for row in rows}:
        assert max(row.relative for row in rows if row.problem == problem) == 1.0


def test_what_was_asked_of_samplers_is_judged_by_the_rows():
    def row(contender, chains, speed):
        return SamplerRow("uniform 50-cube", contender, "float32", chains, "", 1, 1, 1, 1, speed, 1, 1, 1, 1, 1)

    rows = [row("MirroredHMC", 256, 2e5), row("MirroredHMC, compiled", 256, 6e5), row("hopsy billiard", 4, 1e5)]
    lines = list(verdicts([*rows, row("blackjax static HMC", 256, 6e5), row("blackjax NUTS", 4, 1e5)]))
    words = "uniform 50-cube"
    assert f"asked: MirroredHMC, {words}, effective samples per second: 6e+05, at least 300000: met" in lines
    assert f"asked: MirroredHMC over the best of blackjax NUTS, {words}: 6, at least 5: met" in lines
    assert f"asked: MirroredHMC over the best of hopsy, {words}: 6, at least 10: not met" in lines
    assert f"asked: MirroredHMC over the best of blackjax static HMC, {words}, 256 chains: 1, at least 1: met" in lines
    assert len(lines) == 5


def test_transport_is_correct_where_it_is_timed():
    rows = transport.run(quick=True)
    # Solvers stop when marginals are within 1e-10; plans are promised to 1e-8.
    check([row for row in rows if row.operation in ("plans", "derivatives")], {"float64": 1e-8})
    assert all(row.feasible == 1.0 for row in rows if row.feasible is not None)
    gaps = {row.contender: row.error for row in rows if row.operation == "precise plans"}
    assert gaps["ours, newton, epsilon 1/4096"] < gaps["ours, epsilon 0.002"] < gaps["ours, epsilon 0.01"] < 0.1


def test_steps_together_are_those_of_the_loop():
    rows = optim.run(quick=True)
    check(rows, {"float32": 1e-6})
    assert all(row.feasible == 1.0 for row in rows if row.feasible is not None)
    assert {row.contender for row in rows} >= {"loop", "foreach", "torch.optim.SGD, foreach"}


def test_interleaving_calls_every_competitor_equally_often():
    counts = {"a": 0, "b": 0}

    def count(name):
        counts[name] += 1

    seconds = interleaved({k: lambda k=k: count(k) for k in counts}, groups=2, calls=3)
    assert counts == {"a": 7, "b": 7}
    assert set(seconds) == {"a", "b"}


def test_agents_do_the_work_that_they_are_timed_for():
    rows = agents.run(quick=True)
    assert {row.contender for row in rows} >= {"PPO", "MDPO", "DriftPO"}
    assert all(row.error < 1e-6 for row in rows if row.error is not None)
