"""Statistics over seeds and learning curves of the study of agents."""

from pathlib import Path
from typing import Any

import numpy as np
from common import COLORS, clean, figure, save

Row = dict[str, Any]
KEY = ("section", "environment", "agent")


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Of the middle half, whole values only."""
    ordered = np.sort(values, axis)
    n = ordered.shape[axis]
    return np.take(ordered, range(n // 4, n - n // 4), axis).mean(axis)


def resampled(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Interquartile means ``(4000)`` of bootstrap samples."""
    return interquartile_mean(random.choice(values, (4000, len(values))))


def grouped(rows: list[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Runs by section, environment and agent."""
    keys = dict.fromkeys(tuple(r[k] for k in KEY) for r in rows)
    return {key: [r for r in rows if tuple(r[k] for k in KEY) == key] for key in keys}


def numbers(rows: list[Row], name: str) -> np.ndarray:
    """A column."""
    return np.array([float(r[name]) for r in rows])


def summary(rows: list[Row]) -> list[Row]:
    """Statistics over seeds."""
    random = np.random.default_rng(0)
    found = []
    for key, mine in grouped(rows).items():
        line: Row = dict(zip(KEY, key, strict=True)) | {"seeds": len(mine)}
        for name in ("last", "mean"):
            values = numbers(mine, name)
            low, high = np.quantile(resampled(values, random), [0.025, 0.975])
            line |= {f"{name}_iqm": float(interquartile_mean(values)), f"{name}_low": float(low),
                     f"{name}_high": float(high), f"{name}_average": float(values.mean())}  # fmt: skip
        found.append(line | {"seconds": float(numbers(mine, "seconds").mean())})
    return found


def differences(rows: list[Row], other: str) -> list[Row]:
    """Interquartile means above those of one agent, in the sections and environments where it ran."""
    random = np.random.default_rng(0)
    groups = grouped(rows)
    found = []
    for key, mine in groups.items():
        theirs = groups.get((*key[:2], other))
        if theirs is None or key[2] == other:
            continue
        line: Row = dict(zip(KEY, key, strict=True)) | {"seeds": len(mine), "seeds_other": len(theirs)}
        for name in ("last", "mean"):
            ours, base = numbers(mine, name), numbers(theirs, name)
            low, high = np.quantile(resampled(ours, random) - resampled(base, random), [0.025, 0.975])
            line |= {name: float(interquartile_mean(ours) - interquartile_mean(base)),
                     f"{name}_low": float(low), f"{name}_high": float(high)}  # fmt: skip
        found.append(line)
    return found


def draw(rows: list[Row], path: Path) -> None:
    """Mean curves with the range of seeds; an agent has one color in all panels of a section."""
    panels = list(dict.fromkeys((r["section"], r["environment"]) for r in rows))
    made = figure(4.6 * min(4, len(panels)), 3.4 * -(-len(panels) // 4))
    axes = made.subplots(-(-len(panels) // 4), min(4, len(panels)), squeeze=False).flatten()
    for axis, (section, environment) in zip(axes, panels, strict=False):
        names = list(dict.fromkeys(r["agent"] for r in rows if r["section"] == section))
        for color, name in zip(COLORS, names, strict=False):
            mine = [r for r in rows if tuple(r[k] for k in KEY) == (section, environment, name)]
            if mine:
                curve(axis, mine, color, name)
        axis.legend(fontsize=7, frameon=False)
        clean(axis, f"{environment} ({section})", "thousand steps", "return")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    save(made, path)


def curve(axis: Any, runs: list[Row], color: str, name: str) -> None:
    """One agent."""
    curves = [np.array([[float(v) for v in p.split(":")] for p in r["curve"].split()]) for r in runs]
    length = min(map(len, curves))
    steps, values = curves[0][:length, 0] / 1000, np.stack([c[:length, 1] for c in curves])
    axis.plot(steps, values.mean(0), color=color, label=name)
    axis.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.12, lw=0)
