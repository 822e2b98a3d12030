"""The Lightning side of the models: logging, optimiser, fitting of the dual transform, checkpoints."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mirrorgen.diffusion import PushforwardDiffusion, ScoreModel
from mirrorgen.flows import FlowModel
from mirrorgen.policy.preference import PreferenceTuning
from mirrorgen.seeding import counter_generator
from mirrorgen.spec import from_spec, to_spec
from mirrorgen.training.schedule import Schedule, learning_rate_factor

__all__ = ["DiffusionTask", "FlowTask", "ModelTask", "PreferenceTask"]

TRAIN, EVAL = 0, 1


class ModelTask(LightningModule):
    """Trains a model that has a ``loss``, by AdamW, on batches ``x``, ``(x,)`` or ``(x, condition)``.

    The noise of step ``k`` depends on the seed, the process and ``k`` alone, so a resumed run repeats what an
    uninterrupted one would have drawn. Hyper-parameters are plain data, however the task was built. A transform of the
    model's dual is fitted on the training data when training starts, unless it has been before.

    Args:
        model: The model, or its specification.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        schedule: Shape of the learning rate after warm-up, see ``learning_rate_factor``.
        warmup_steps: Steps of linear warm-up.
        decay: Factor of ``schedule="step"``.
        decay_every: Steps between two factors of ``schedule="step"``.

    Attributes:
        slot: Name under which the task holds the model and a checkpoint its specification.
    """

    slot: ClassVar[str]

    def __init__(
        self,
        model: nn.Module | Mapping[str, Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
        decay: float = 0.99,
        decay_every: int = 100,
    ) -> None:
        super().__init__()
        setattr(self, self.slot, from_spec(model) if isinstance(model, Mapping) else model)
        self.lr, self.weight_decay = lr, weight_decay
        self.rate: dict[str, Any] = {"schedule": schedule, "warmup_steps": warmup_steps}
        self.rate |= {"decay": decay, "decay_every": decay_every}
        plain = {self.slot: to_spec(self.model), "lr": lr, "weight_decay": weight_decay, **self.rate}
        self.save_hyperparameters(plain, logger=False)
        self.noise_seed: int | None = None

    @property
    def model(self) -> Any:
        """The model."""
        return getattr(self, self.slot)

    def on_fit_start(self) -> None:
        if self.noise_seed is None:
            self.noise_seed = torch.initial_seed()
        transform = getattr(self.model, "dual_transform", None)
        if transform is not None and not bool(transform.fitted):
            self.model.fit_dual_transform(self._training_points().to(self.device))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self._loss(batch, TRAIN, self.global_rank, self.global_step, batch_idx)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("val/loss", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test/loss", batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Log-densities ``(n,)`` of a batch."""
        x, condition = _unpack(batch)
        return self.model.log_prob(x, condition=condition)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # One fused pass is several times faster for small networks on a CPU; Lightning does not clip the gradients
        # of fused optimisers under mixed precision.
        fused = True if self.device.type == "cpu" and "mixed" not in str(self.trainer.precision) else None
        settings: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay, "fused": fused}
        optimizer = torch.optim.AdamW(self.model.parameters(), **settings)
        factor = partial(learning_rate_factor, total_steps=self.trainer.max_steps, **self.rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["noise_seed"] = self.noise_seed
        # Only networks with randomness of their own, such as dropout, draw from the global generator.
        checkpoint["rng_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.noise_seed = checkpoint.get("noise_seed")
        if self._trainer is not None and self._trainer.training and "rng_state" in checkpoint:
            torch.set_rng_state(checkpoint["rng_state"])

    def _evaluate(self, name: str, batch: Any, batch_idx: int) -> None:
        # The same noise every time: two evaluations differ by the weights only.
        loss = self._loss(batch, EVAL, self.global_rank, batch_idx)
        self.log(name, loss, prog_bar=True, sync_dist=True, batch_size=len(_unpack(batch)[0]))

    def _loss(self, batch: Any, *key: int) -> Tensor:
        x, condition = _unpack(batch)
        generator = counter_generator(self.noise_seed or 0, *key, device=x.device)
        return self.model.loss(x, condition=condition, generator=generator)

    def _training_points(self) -> Tensor:
        """All training points in every process, so that each fits the same transform."""
        self.trainer.fit_loop.setup_data()
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "points"):
            return loader.points
        points = torch.cat([_unpack(batch)[0] for batch in loader]).to(self.device)
        gathered: Any = self.all_gather(points)
        return gathered.reshape(-1, points.shape[-1])


class FlowTask(ModelTask):
    """Trains a ``MirrorFlow`` or another flow; see ``ModelTask`` for the settings of the optimisation.

    Args:
        flow: The flow, or its specification.
        optimization: ``lr``, ``weight_decay``, ``schedule``, ``warmup_steps``, ``decay``, ``decay_every``.
    """

    slot = "flow"
    flow: FlowModel

    def __init__(self, flow: FlowModel, **optimization: Any) -> None:
        super().__init__(flow, **optimization)


class DiffusionTask(ModelTask):
    """Trains a ``ReflectedDiffusion`` or another diffusion model; see ``ModelTask`` for the optimisation.

    Args:
        diffusion: The model, or its specification.
        optimization: ``lr``, ``weight_decay``, ``schedule``, ``warmup_steps``, ``decay``, ``decay_every``.
    """

    slot = "diffusion"
    diffusion: ScoreModel | PushforwardDiffusion

    def __init__(self, diffusion: ScoreModel | PushforwardDiffusion, **optimization: Any) -> None:
        super().__init__(diffusion, **optimization)


class PreferenceTask(ModelTask):
    """Trains a ``PreferenceTuning`` on prompts; see ``ModelTask`` for the optimisation.

    Validation logs ``val/score``, ``val/win_rate`` over the reference, and ``val/kl`` to it, of fresh answers.

    Args:
        tuning: The policy with its objective.
        optimization: ``lr``, ``weight_decay``, ``schedule``, ``warmup_steps``, ``decay``, ``decay_every``.
    """

    slot = "tuning"
    tuning: PreferenceTuning

    def __init__(self, tuning: PreferenceTuning, **optimization: Any) -> None:
        super().__init__(tuning, **optimization)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        prompts = _unpack(batch)[0]
        generator = counter_generator(self.noise_seed or 0, EVAL, self.global_rank, batch_idx, device=prompts.device)
        found = self.tuning.evaluate(prompts, generator=generator)
        logged = {f"val/{name}": value for name, value in found.items()}
        self.log_dict(logged, prog_bar=True, sync_dist=True, batch_size=len(prompts))


def _unpack(batch: Any) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor):
        return batch, None
    return batch[0], batch[1] if len(batch) > 1 else None
