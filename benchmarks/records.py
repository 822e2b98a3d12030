"""Rows of results: printed as a table, stored as CSV with the circumstances in its header."""

import csv
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """One timing with its correctness.

    Attributes:
        name: The map, or the model.
        operation: What was timed.
        contender: Who did it; ``bare`` operations or a peer are the yardstick of ``ratio``.
        dtype: Of the input.
        shape: Of the input.
        seconds: Per call.
        ratio: ``seconds`` over those of the yardstick, timed in turn within the same run.
        error: What ``remark`` or the table's notes say, in the dtype of the row; empty where there is none.
        feasible: Share of points strictly inside the domain; empty where no point is returned.
        remark: The yardstick in words.
    """

    name: str
    operation: str
    contender: str
    dtype: str
    shape: str
    seconds: float
    ratio: float
    error: float | None
    feasible: float | None
    remark: str


FORMATS = {"seconds": ".3e", "ratio": ".3g", "error": ".1e", "feasible": ".4f"}


def _cells(row: Any, formats: Mapping[str, str]) -> list[str]:
    return ["" if v is None else format(v, formats.get(k, "")) for k, v in asdict(row).items()]


def print_table(title: str, rows: Sequence[Any], formats: Mapping[str, str] = FORMATS) -> None:
    """Aligned columns of rows of one dataclass on standard output; ``formats`` are those of its members."""
    table = [[f.name for f in fields(rows[0])], *(_cells(row, formats) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    print(f"\n{title}")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def cpu_model() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_csv(
    path: Path, command: str, notes: Sequence[str], rows: Sequence[Any], formats: Mapping[str, str] = FORMATS
) -> None:
    """Write ``rows`` of one dataclass under comment lines that say how they came about."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = [
        f"command: {command}",
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), CPU {cpu_model()}",
        *notes,
    ]
    if not any(line.startswith("seconds:") for line in notes):
        clock = "CPU time of the thread" if torch.get_num_threads() == 1 else "wall time"
        header.insert(2, f"seconds: {clock}")
    with path.open("w", newline="") as file:
        file.writelines(f"# {line}\n" for line in header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(f.name for f in fields(rows[0]))
        writer.writerows(_cells(row, formats) for row in rows)
