"""Training with Lightning: the thin task, the averaging callback, callbacks that look at samples."""

from mirrorgen.training.callbacks import Checkpoint, Feasibility, SampleFigure
from mirrorgen.training.ema import EMA
from mirrorgen.training.sampling import sample_distributed
from mirrorgen.training.task import DiffusionTask, FlowTask, ModelTask, PreferenceTask

__all__ = [
    "Checkpoint",
    "DiffusionTask",
    "EMA",
    "Feasibility",
    "FlowTask",
    "ModelTask",
    "PreferenceTask",
    "SampleFigure",
    "sample_distributed",
]
