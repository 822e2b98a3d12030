"""The exponential moving average of the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from mirrorgen.errors import DomainError

__all__ = ["EMA"]


class EMA(WeightAveraging):
    """Keeps ``w <- d w + (1 - d) theta`` after every step, with ``d = min(decay, (1 + n) / (10 + n))`` at step ``n``.

    Buffers are copied, never averaged: they hold constants such as a polytope's ``A`` and ``b``, which rounding
    would move. Validation runs on the averaged weights until its very end, so callbacks may sample in
    ``on_validation_epoch_end`` whatever their order; after training the model holds the averaged weights.
    Checkpoints file the averaged weights under ``state_dict`` and the raw ones under ``current_model_state``.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992), for averaging;
    Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations" (2021), for the warm-up.

    Args:
        decay: Limit of ``d``, in [0, 1).
        warmup: Whether ``d`` starts small.

    Raises:
        DomainError: If ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise DomainError(f"decay must lie in [0, 1), got {decay}")
        self.decay, self.warmup = decay, warmup
        self._swapped = False
        super().__init__(use_buffers=False, multi_avg_fn=self._average)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swapping back waits for ``on_validation_end``."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A swap instead of a copy: a checkpoint saved after training can still resume.
        self._swap_models(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped and "current_model_state" in checkpoint:
            averaged = checkpoint["current_model_state"]
            checkpoint["current_model_state"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = averaged

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Outside training there is no average to restore: the module has just loaded the averaged weights.
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _swap_models(self, pl_module: LightningModule) -> None:
        assert self._average_model is not None
        for kept, used in zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True):
            kept.data, used.data = used.data.to(kept.device), kept.data.to(used.device)
        pairs = zip(self._average_model.module.buffers(), pl_module.buffers(), strict=True)
        for averaged, current in pairs:
            averaged.copy_(current)
        self._swapped = not self._swapped

    @torch.no_grad()
    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        count = int(n)
        decay = min(self.decay, (1 + count) / (10 + count)) if self.warmup else self.decay
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)
