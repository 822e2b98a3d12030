"""Tables of numbers whose rows are points of a domain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mirrorgen.data.base import TensorDataModule
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry.domains import Domain

__all__ = ["Table", "check_rows", "read_table"]

SHOWN = 5


class Table(TensorDataModule):
    """Rows of a CSV, NumPy or Parquet file as points of ``domain``, checked one by one before training.

    Args:
        path: ``.csv``, ``.npy``, ``.npz`` or ``.parquet``.
        domain: The set the rows must lie in, strictly, in float32.
        columns: Column names (CSV, Parquet), or the array's name (``.npz``); all columns, or the only array, if None.
        outside: What to do with rows outside: ``"error"`` names them; ``"drop"`` leaves them out; ``"project"``
            replaces them by their Euclidean projection, moved into the interior by ``inset``. Rows with NaN or
            infinite entries cannot be projected and are an error then.
        inset: Share of the way from the projection to the interior point, for ``outside="project"``.
        fractions: Shares of the rows for validation and test, taken at random.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the split and of the order.
    """

    def __init__(
        self,
        path: str | Path,
        domain: Domain,
        columns: Sequence[str] | None = None,
        outside: Literal["error", "drop", "project"] = "error",
        inset: float = 1e-3,
        fractions: tuple[float, float] = (0.1, 0.1),
        batch_size: int = 256,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        if min(fractions) < 0 or sum(fractions) >= 1:
            raise DomainError(f"fractions must be non-negative and sum to less than 1, got {tuple(fractions)}")
        self.path, self.columns, self.outside = Path(path), columns, outside
        self.inset, self.fractions, self._domain = inset, fractions, domain

    @property
    def domain(self) -> Domain:
        return self._domain

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        x = check_rows(read_table(self.path, self.columns), self.domain, self.outside, self.inset)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        first, second = (round(f * len(x)) for f in self.fractions)
        parts = {"val": order[:first], "test": order[first : first + second], "train": order[first + second :]}
        return {name: (x[rows],) for name, rows in parts.items()}


def read_table(path: Path, columns: Sequence[str] | None = None) -> Tensor:
    """The table as a float64 tensor ``(n, dim)``.

    Raises:
        ShapeError: If the file is no table of numbers, or a column is missing.
        MissingExtraError: If reading needs pandas or pyarrow, and they are not installed.
    """
    if not path.is_file():
        raise DomainError(f"there is no file {path}; check the path of the table")
    kind = path.suffix.lower()
    if kind in (".npy", ".npz"):
        values = _read_numpy(path, columns)
    elif kind in (".csv", ".parquet"):
        values = _read_frame(path, kind, columns)
    else:
        raise ShapeError(f"cannot read {path.name}; use .csv, .npy, .npz or .parquet")
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ShapeError(f"{path.name}: a table of real numbers (n, dim) is needed, got {values.dtype} {values.shape}")
    return torch.from_numpy(values.astype(np.float64))


def check_rows(x: Tensor, domain: Domain, outside: str = "error", inset: float = 1e-3) -> Tensor:
    """Rows as float32 points strictly inside ``domain``; see ``Table`` for the policies.

    Raises:
        DomainError: If rows lie outside and the policy is ``"error"``, or nothing is left; names rows and constraints.
    """
    if x.shape[-1] != domain.dim:
        raise ShapeError(f"the table has {x.shape[-1]} columns, but points of {domain!r} have {domain.dim} coordinates")
    points = x.float()
    inside = domain.contains(points)
    finite = torch.isfinite(points).all(-1)
    if outside == "project" and bool(finite.all()):
        center = domain.interior_point()
        pulled = torch.lerp(domain.project(x), center.expand_as(x), inset).float()
        return domain.pull_inside(torch.where(inside.unsqueeze(-1), points, pulled))[0]
    if outside == "drop" and bool(inside.any()):
        return points[inside]
    if bool(inside.all()):
        return points
    rows = (~inside).nonzero().flatten().tolist()
    reasons = "; ".join(f"row {i}: {_reason(domain, points[i])}" for i in rows[:SHOWN])
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    raise DomainError(
        f"{len(rows)} of {len(x)} rows are outside {domain!r}: {reasons}{more}. Correct them, or pass "
        "outside='drop' or outside='project'"
    )


def _reason(domain: Domain, point: Tensor) -> str:
    # The sentence of explain counts and numbers points; of a single one only the reason matters.
    text = domain.explain(point.unsqueeze(0)) or ""
    return text.split("; point 0 ", 1)[-1]


def _read_numpy(path: Path, columns: Sequence[str] | None) -> np.ndarray:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    names = list(loaded.files) if columns is None else list(columns)
    if len(names) != 1 or names[0] not in loaded.files:
        raise ShapeError(f"{path.name} holds the arrays {', '.join(loaded.files)}; name one of them in columns")
    return loaded[names[0]]


def _read_frame(path: Path, kind: str, columns: Sequence[str] | None) -> np.ndarray:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError.for_extra("pandas", "data") from error
    frame = pd.read_csv(path) if kind == ".csv" else pd.read_parquet(path)
    missing = [c for c in columns or () if c not in frame.columns]
    if missing:
        raise ShapeError(f"{path.name} has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}")
    return (frame if columns is None else frame[list(columns)]).to_numpy()
