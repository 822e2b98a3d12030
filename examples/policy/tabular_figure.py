"""The panels of tabular.png."""

import math
from pathlib import Path

import torch
from common import COLORS, clean, figure, save
from torch import Tensor

__all__ = ["draw_all", "draw_bounds", "draw_constrained", "draw_crowd", "draw_errors", "draw_linear", "draw_rates"]


def draw_rates(axis, curves: dict[str, Tensor]) -> None:
    for color, (name, gaps) in zip([*COLORS[:6], "k"], curves.items(), strict=True):
        mean = gaps.clamp_min(1e-13).log().mean(-1).exp()
        axis.semilogy(mean, color=color, label=name, ls="--" if name.startswith("discount") else "-")
    axis.set_ylim(1e-12, 3e4)  # Room for the legend.
    clean(axis, "policy mirror descent", "steps", "gap to the optimal values")


def draw_bounds(axis, curves: dict[str, Tensor]) -> None:
    for color, (name, worst) in zip(
        COLORS,
        ((n, w) for n, w in curves.items() if "gap_0 + 1" in n or "1/k" in n),
        strict=False,
    ):
        label = name.replace(": its O(1/k)", ", O(1/k)").replace(
            ": discount^k (gap_0 + 1 / (1 - discount))", ", linear"
        )
        axis.plot(worst, torch.linspace(0, 1, len(worst)), color=color, label=label)
    axis.axvline(1.0, color="k", lw=0.8)
    axis.set_xscale("log")
    clean(axis, "100 processes, bounds of both kinds", "largest gap / bound over all steps", "share of processes")


def draw_errors(axis, curves: dict[str, Tensor]) -> None:
    for color, name in zip(COLORS, dict.fromkeys(n.split(", noise")[0] for n in curves), strict=False):
        for noise, style in (("1", "-"), ("0.1", ":")):
            values = curves[f"{name}, noise {noise}"]
            label = name if noise == "1" else None
            axis.loglog(range(1, len(values) + 1), values, color=color, ls=style, label=label)
    axis.set_ylim(1e-4, 10)
    clean(axis, "noise 1 (dotted: 0.1) in every backup", "backups", "gap of the policy")


def draw_constrained(axis, curves: dict[str, Tensor]) -> None:
    for color, (name, values) in zip(COLORS, curves.items(), strict=False):
        axis.semilogy(50 * torch.arange(1, len(values) + 1), values, color=color, label=name)
    clean(axis, "constrained: residual of last iterates", "steps", "largest of fifty steps")


def draw_crowd(axis, curves: dict[str, Tensor]) -> None:
    for color, (name, values) in zip(COLORS, curves.items(), strict=False):
        axis.semilogy(values, color=color, label=name)
    clean(axis, "crowd, cost 2", "steps", "regularised exploitability")


def draw_linear(axis, curves: dict[str, Tensor]) -> None:
    for color, (name, values) in zip([*COLORS, "k"], curves.items(), strict=True):
        ls = "--" if name == "uniform policy" else "-"
        axis.loglog(range(1, len(values) + 1), values, color=color, label=name, ls=ls)
    axis.set_ylim(1, None)
    clean(axis, "linear process, simplex features", "episodes", "regret")


def draw_all(drawn: dict, path: Path) -> None:
    if not drawn:
        return
    made = figure(15, 4.0 * math.ceil(len(drawn) / 3))
    axes = made.subplots(math.ceil(len(drawn) / 3), 3, squeeze=False).flatten()
    for axis, (draw, curves) in zip(axes, drawn.values(), strict=False):
        draw(axis, curves)
        axis.legend(fontsize=6.5, frameon=False)
    for axis in axes[len(drawn) :]:
        axis.axis("off")
    save(made, path)
