"""Training with Lightning: the thin task, the averaging callback, callbacks that look at samples."""

from mirrorgen.training.callbacks import Checkpoint, Feasibility, SampleFigure
from mirrorgen.training.ema import EMA
from mirrorgen.training.sampling import sample_distributed
from mirrorgen.training.task import FlowTask

__all__ = ["Checkpoint", "EMA", "Feasibility", "FlowTask", "SampleFigure", "sample_distributed"]
