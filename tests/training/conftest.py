"""A small flow on a polytope and what trains it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from mirrorgen.data import Synthetic
from mirrorgen.flows import MirrorFlow
from mirrorgen.geometry.domains import Polytope
from mirrorgen.geometry.mirror_maps import RegularizedBarrier
from mirrorgen.nets import MLP
from mirrorgen.targets import TruncatedMixture
from mirrorgen.training import EMA, Checkpoint, Feasibility, FlowTask

A = [[0.6, 0.8], [-1.0, 0.3], [0.1, -1.0]]


def build_flow(**options) -> MirrorFlow:
    domain = Polytope(A, [1.0, 1.0, 1.0])
    return MirrorFlow(RegularizedBarrier(domain, kappa=0.4), MLP(2, hidden=(16,)), **options)


def build_task(**options) -> FlowTask:
    seed_everything(5, verbose=False)
    return FlowTask(build_flow(), **{"lr": 1e-2, **options})


def build_data(**options) -> Synthetic:
    target = TruncatedMixture(Polytope(A, [1.0, 1.0, 1.0]), [[0.0, 0.0], [0.5, -0.5]], 0.04)
    return Synthetic(target, num_train=200, num_eval=64, **{"batch_size": 32, **options})


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Builds trainers for `steps` optimiser steps, each with a folder of its own."""
    made = []

    def make(steps: int, *callbacks: Callback, save_every: int = 1000, **options) -> Trainer:
        made.append(steps)
        forced = [EMA(), Checkpoint(every_n_train_steps=save_every), Feasibility(num=8, steps=2)]
        return Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path / f"run{len(made)}",
            callbacks=[*callbacks, *forced],
            **options,
        )

    return make


def equal_states(a: dict, b: dict) -> bool:
    """Whether two state dicts agree bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
