"""Callbacks that look at samples while a model trains."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from torch import Tensor

from mirrorgen.errors import MissingExtraError

__all__ = ["Checkpoint", "Feasibility", "Progress", "SampleFigure"]


class Progress(RichProgressBar):
    """The rich bar, counting epochs up to the one that reaches ``max_steps``."""

    def _get_train_description(self, current_epoch: int) -> str:
        steps, batches = self.trainer.max_steps, self.trainer.num_training_batches
        if steps < 1 or batches in (0, float("inf")):
            return super()._get_train_description(current_epoch)
        last = -(-steps * self.trainer.accumulate_grad_batches // int(batches))
        return f"{f'Epoch {current_epoch + 1}/{last}':{len(self.validation_description)}}"


class Checkpoint(ModelCheckpoint):
    """Keeps ``checkpoints/last.ckpt`` in the run's folder up to date, also when training ends.

    Args:
        every_n_train_steps: Optimiser steps between two saves.
        save_top_k: How many of the best checkpoints to keep besides, if ``monitor`` is given.
        monitor: Logged quantity by which checkpoints are ranked, such as ``"val/loss"``.
    """

    def __init__(self, every_n_train_steps: int = 500, save_top_k: int = 1, monitor: str | None = None) -> None:
        named: dict[str, Any] = {"filename": "last", "enable_version_counter": False}
        if monitor is not None:
            named = {"filename": "best-{step}", "save_last": True}
        super().__init__(every_n_train_steps=every_n_train_steps, save_top_k=save_top_k, monitor=monitor, **named)

    @property
    def state_key(self) -> str:
        # The inherited key holds the interval too, so a run resumed with another one would not find its state.
        return f"Checkpoint[{self.monitor}]"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A resumed run has a folder of its own, and ranks its own checkpoints.
        if state_dict.get("dirpath") == self.dirpath:
            super().load_state_dict(state_dict)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = self._last_global_step_saved
        if last != trainer.global_step and not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            if self.monitor is None or self.monitor in candidates:
                self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)


class _Sampling(Callback):
    """Draws samples from ``task.model`` when a validation epoch ends, always from the same noise.

    Args:
        num: Number of samples.
        steps: Integration steps.
        every_n_epochs: Validation epochs between two looks.
    """

    def __init__(self, num: int = 256, steps: int = 20, every_n_epochs: int = 1) -> None:
        self.num, self.steps, self.every_n_epochs = num, steps, every_n_epochs
        self._seen = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._seen += 1
        if self._seen % self.every_n_epochs == 0 or trainer.state.fn != "fit":
            self.look(trainer, pl_module)

    def look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample and report."""
        raise NotImplementedError

    def draw(self, pl_module: LightningModule, condition: Tensor | None = None) -> Tensor:
        """``num`` samples ``(num, dim)``."""
        generator = torch.Generator(pl_module.device).manual_seed(0)
        model: Any = pl_module.model
        return model.sample(self.num, steps=self.steps, condition=condition, generator=generator)


class Feasibility(_Sampling):
    """Logs ``sample/feasible_frac``, the share of samples strictly inside, and ``sample/worst_slack``."""

    def look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        x = self.draw(pl_module)
        model: Any = pl_module.model
        domain = model.domain
        pl_module.log("sample/feasible_frac", domain.contains(x).float().mean(), rank_zero_only=True)
        slack = domain.slack(x)
        if slack.numel():  # A set without walls has none.
            pl_module.log("sample/worst_slack", slack.min(), rank_zero_only=True)


class SampleFigure(_Sampling):
    """Writes ``samples/step-<n>.png`` into the run's folder: a grid of images, or a scatter plot.

    With class labels row ``k`` of the grid shows class ``k``.

    Args:
        image_size: Height and width if points are images; None for a scatter plot of the first two coordinates.
        num: Number of samples.
        steps: Integration steps.
        every_n_epochs: Validation epochs between two figures.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        num: int = 100,
        steps: int = 20,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__(num, steps, every_n_epochs)
        self.image_size = image_size

    def look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        model: Any = pl_module.model
        classes = model.net.num_classes
        labels = torch.arange(self.num, device=pl_module.device) * classes // self.num if classes else None
        x = self.draw(pl_module, labels).cpu()
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{trainer.global_step:06d}.png"
        if self.image_size is None:
            _scatter(x, path)
        else:
            _grid(x.reshape(-1, *self.image_size), max(classes, int(self.num**0.5)), path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.for_extra("matplotlib", "viz") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    # The Agg canvas needs no display and no global state.
    FigureCanvasAgg(figure)
    return figure


def _grid(images: Tensor, rows: int, path: Path) -> None:
    columns = -(-len(images) // rows)
    figure = _figure(0.5 * columns, 0.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image in zip(axes.flat, images, strict=False):
        axis.imshow(image.numpy(), cmap="gray_r", vmin=0.0, vmax=float(images.max()))
    figure.savefig(path, dpi=120)


def _scatter(x: Tensor, path: Path) -> None:
    figure = _figure(4, 4)
    axis = figure.subplots()
    axis.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=3)
    axis.set_xlabel("$x_1$")
    axis.set_ylabel("$x_2$")
    figure.savefig(path, dpi=120)
