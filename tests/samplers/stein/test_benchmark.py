"""The benchmark runs, and its directions agree with the naive sum."""

from benchmarks import stein


def test_directions_agree_where_they_are_timed():
    rows = stein.run(quick=True)
    assert {row.operation for row in rows} >= {"MSVGD step", "step"}
    errors = [row.error for row in rows if row.error is not None]
    assert errors
    assert max(errors) < 1e-4
    assert all(row.feasible in (None, 1.0) for row in rows)
