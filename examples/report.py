"""Shared by the studies of these folders: options, tables, figures."""

import argparse
import contextlib
import csv
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

COLORS = ["#1b6ca8", "#d1495b", "#2e8b57", "#edae49", "#6b4c9a", "#8d6a4f", "#444444", "#00a0b0"]


def distances(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """From samples ``x`` to points ``y``: MMD (kernel of width 1), k-NN KL (k = 3), sliced W2 (500 projections)."""
    from mirrorgen import metrics

    return {
        "mmd": float(metrics.mmd(x, y)),
        "knn_kl": float(metrics.knn_kl(x, y)),
        "sliced_w2": float(metrics.sliced_wasserstein(x, y)),
    }


def options(description: str | None, **extra: object) -> argparse.Namespace:
    """``--quick``, ``--out``, numbers with defaults, and switches where the default is ``False``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a check that everything runs")
    parser.add_argument("--out", type=Path, default=Path(sys.argv[0]).parent / "results", help="folder of the results")
    for name, default in extra.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true", help="keep the rows of an interrupted run")
            continue
        parser.add_argument(f"--{name}", type=type(default), default=default, help="(default: %(default)s)")
    parsed = parser.parse_args()
    parsed.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return parsed


def run_studies(description: str | None, folder: Path) -> None:
    """Run the scripts of a folder in turn; one that fails does not stop the others."""
    scripts = sorted(p for p in folder.glob("*.py") if p.stem != "run" and "def main()" in p.read_text())
    names = [p.stem for p in scripts]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="studies to run")
    chosen, passed_on = parser.parse_known_args()
    failed = []
    for name in chosen.only:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, folder / f"{name}.py", *passed_on], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def write_csv(path: Path, notes: Iterable[str], rows: list[dict[str, object]]) -> None:
    """``rows`` under comment lines, the command first."""
    arguments = sys.argv[1:]
    if "--out" in arguments:  # A folder of one machine says nothing.
        place = arguments.index("--out")
        del arguments[place : place + 2]
    arguments = [a for a in arguments if a != "--resume"]  # Its rows are those of one whole run.
    command = " ".join(["python", "/".join(Path(sys.argv[0]).parts[-3:]), *arguments])
    with path.open("w", newline="") as file:
        file.writelines(f"# {line}\n" for line in (f"command: {command}", f"torch {torch.__version__}", *notes))
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    print(f"wrote {path}")


def kept_rows(path: Path, resume: bool) -> list[dict[str, object]]:
    """Rows that an interrupted run wrote, none unless ``resume``; numbers as numbers."""
    if not (resume and path.exists()):
        return []
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def _number(text: str) -> object:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def show(rows: list[dict[str, object]]) -> None:
    """Print rows as an aligned table."""
    cells = [list(rows[0]), *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def figure(width: float, height: float):
    """A matplotlib figure that draws without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made, path: Path) -> None:
    """Write a figure."""
    made.savefig(path, dpi=150)
    print(f"wrote {path}")


def clean(axis, title: str, xlabel: str, ylabel: str) -> None:
    """Titles, light grid, no box."""
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
