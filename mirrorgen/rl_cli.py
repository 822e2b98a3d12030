"""``mirrorgen rl``: train an agent from a configuration, over one seed or several, and summarise."""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser

from mirrorgen.errors import DomainError

__all__ = ["parser", "run"]


def parser() -> ArgumentParser:
    """The options of the command."""
    from mirrorgen.policy.agents.training import AgentRun, MakeAgent

    made = ArgumentParser(
        prog="mirrorgen rl",
        description="Train an agent in a gymnasium environment; evaluate, save, summarise.",
        exit_on_error=False,
    )
    made.add_argument("--config", action="config", help="YAML file with any of the options")
    made.add_argument("--agent", type=MakeAgent, required=True, help="class and arguments: MDPO, MVIQ, SAC, ...")
    made.add_argument("--num_seeds", type=int, default=1, help="seeds from --seed on, one after the other")
    made.add_argument("--name", type=str | None, default=None, help="name of the run (default: the config's)")
    made.add_argument("--run_dir", type=str, default="runs", help="folder that holds the runs")
    made.add_argument("--resume", type=bool, default=False, help="go on from the folder's models")
    made.add_argument("--progress", type=bool, default=True, help="show a bar")
    made.add_argument("--threads", type=int, default=1, help="of torch; small networks lose time with more")
    made.add_class_arguments(AgentRun, None, skip={"agent", "folder"})
    return made


def run(args: Sequence[str]) -> list[dict[str, Any]]:
    """Carry out the command.

    Returns:
        A summary per seed.

    Raises:
        DomainError: If an option is wrong, or a folder holds a run already.
    """
    from mirrorgen.policy.agents.training import AgentRun

    options = _parse(args)
    torch.set_num_threads(options.pop("threads"))
    name, files = options.pop("name"), options.pop("config") or []
    folder = Path(options.pop("run_dir")) / (name or (Path(str(files[0])).stem if files else "agent"))
    seeds, first = options.pop("num_seeds"), options.pop("seed")
    resume, progress = options.pop("resume"), options.pop("progress")
    if seeds < 1:
        raise DomainError(f"num_seeds must be at least 1, got {seeds}")
    runs = [AgentRun(**options, seed=s, folder=folder / f"seed_{s}") for s in range(first, first + seeds)]
    summaries = []
    for one in runs:
        one.train(resume=resume, progress=progress)
        summaries.append(one.summary())
        print("  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in summaries[-1].items()))
    _write(folder / "summary.csv", summaries)
    _draw(folder / "curves.png", [r.curve() for r in runs], runs[0].environment)
    return summaries


def _parse(args: Sequence[str]) -> dict[str, Any]:
    import stable_baselines3  # noqa: F401 (its agents become known by their short names)

    made = parser()
    try:
        parsed = made.parse_args(list(args))
        return dict(made.instantiate_classes(parsed))
    except ArgumentError as error:
        raise DomainError(_reason(str(error))) from error


def _reason(message: str) -> str:
    """The parser's account in one line, with near misses of class names."""
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    text = "; ".join(dict.fromkeys(lines))
    if "import path" in text or "Unresolvable" in text:
        import mirrorgen.policy.agents as agents

        words = [w.strip("'\",.:;") for w in text.split()]
        close = [m for w in words for m in difflib.get_close_matches(w, agents.__all__, n=2, cutoff=0.6)]
        if close:
            return f"agent: there is no such class; did you mean {' or '.join(dict.fromkeys(close))}?"
    return text


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}")


def _draw(path: Path, curves: list[dict[str, np.ndarray]], title: str) -> None:
    """Returns of all seeds and their mean; nothing without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for curve in curves:
        axis.plot(curve["timesteps"], curve["mean_return"], color="#1b6ca8", alpha=0.4 if len(curves) > 1 else 1.0)
    shortest = min(len(c["timesteps"]) for c in curves)
    if len(curves) > 1:
        mean = np.mean([c["mean_return"][:shortest] for c in curves], axis=0)
        axis.plot(curves[0]["timesteps"][:shortest], mean, color="#1b6ca8", lw=2)
    axis.set(title=title, xlabel="environment steps", ylabel="return of evaluations")
    axis.grid(alpha=0.25)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")
