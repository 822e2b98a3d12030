"""Tables: what is read, and what is said about rows outside."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mirrorgen.data import Table
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Ball, Box, Simplex

GOOD = np.random.default_rng(0).uniform(0.1, 0.9, (40, 3))


def written(folder: Path, suffix: str, values: np.ndarray = GOOD) -> Path:
    path = folder / f"rows{suffix}"
    frame = pd.DataFrame(values, columns=list("abc"))
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".npy":
        np.save(path, values)
    else:
        np.savez(path, rows=values)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz", ".parquet"])
def test_formats_agree(tmp_path: Path, suffix: str) -> None:
    table = Table(written(tmp_path, suffix), Box(0.0, 1.0, dim=3), fractions=(0.25, 0.1))
    assert [len(table.points(n)) for n in ("train", "val", "test")] == [26, 10, 4]
    everything = torch.cat([table.points(n) for n in ("val", "test")] + [table.split("train")[0]])
    expected = torch.tensor(GOOD, dtype=torch.float32)
    assert torch.allclose(everything.sort(0).values, expected.sort(0).values)


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    table = Table(written(tmp_path, ".csv"), Box(0.0, 1.0, dim=2), columns=["c", "a"], fractions=(0.0, 0.0))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(table.split("train")[0], torch.tensor(GOOD[:, [2, 0]], dtype=torch.float32)[order])
    with pytest.raises(ShapeError, match="no column 'z'; it has a, b, c"):
        Table(written(tmp_path, ".csv"), Box(0.0, 1.0, dim=1), columns=["z"]).setup()


def bad_rows() -> np.ndarray:
    values = GOOD.copy()
    values[7, 1], values[30, 2] = 1.5, -0.25
    return values


def test_rows_outside_are_named_with_their_constraint(tmp_path: Path) -> None:
    table = Table(written(tmp_path, ".npy", bad_rows()), Box(0.0, 1.0, dim=3))
    with pytest.raises(DomainError) as caught:
        table.setup()
    text = str(caught.value)
    assert "2 of 40 rows are outside" in text
    assert "row 7: violates x[1] < 1 (slack -0.5)" in text
    assert "row 30: violates x[2] > 0 (slack -0.25)" in text
    assert "outside='drop'" in text


def test_long_lists_are_cut(tmp_path: Path) -> None:
    table = Table(written(tmp_path, ".npy", GOOD + 2), Box(0.0, 1.0, dim=3))
    with pytest.raises(DomainError, match=r"row 4: .*; and 35 more"):
        table.setup()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_missing_values_are_outside(tmp_path: Path, bad: float) -> None:
    values = GOOD.copy()
    values[3, 0] = bad
    path = written(tmp_path, ".csv", values)
    for policy in ("error", "project"):
        with pytest.raises(DomainError, match="row 3: has a NaN or infinite coordinate"):
            Table(path, Box(0.0, 1.0, dim=3), outside=policy).setup()
    assert len(Table(path, Box(0.0, 1.0, dim=3), outside="drop", fractions=(0.0, 0.0)).points()) == 39


def test_policies(tmp_path: Path) -> None:
    path, domain = written(tmp_path, ".npy", bad_rows()), Box(0.0, 1.0, dim=3)
    dropped = Table(path, domain, outside="drop", fractions=(0.0, 0.0)).points()
    assert len(dropped) == 38
    projected = Table(path, domain, outside="project", inset=0.1, fractions=(0.0, 0.0)).split("train")[0]
    assert len(projected) == 40
    assert domain.contains(projected).all()
    # The projection of 1.5 is 1, and a tenth of the way from there to the centre is 0.95.
    assert projected.max().item() == pytest.approx(0.95)
    assert projected.min().item() == pytest.approx(0.05)


def test_vertices_of_the_simplex_can_be_projected(tmp_path: Path) -> None:
    path, domain = written(tmp_path, ".npy", np.eye(3)), Simplex(3)
    with pytest.raises(DomainError, match="3 of 3 rows"):
        Table(path, domain).setup()
    x = Table(path, domain, outside="project", fractions=(0.0, 0.0)).points()
    assert domain.contains(x).all()


def test_rejects_nonsense(tmp_path: Path) -> None:
    box = Box(0.0, 1.0, dim=3)
    with pytest.raises(DomainError, match="there is no file"):
        Table(tmp_path / "none.csv", box).setup()
    with pytest.raises(ShapeError, match="3 columns, but points of"):
        Table(written(tmp_path, ".npy"), Ball(2)).setup()
    (tmp_path / "rows.txt").write_text("1 2 3", encoding="utf-8")
    with pytest.raises(ShapeError, match=r"use \.csv, \.npy, \.npz or \.parquet"):
        Table(tmp_path / "rows.txt", box).setup()
    (tmp_path / "words.csv").write_text("a,b\nx,y\n", encoding="utf-8")
    with pytest.raises(ShapeError, match="table of real numbers"):
        Table(tmp_path / "words.csv", Box(0.0, 1.0, dim=2)).setup()
    with pytest.raises(DomainError, match="fractions"):
        Table(tmp_path / "rows.npy", box, fractions=(0.5, 0.5))
