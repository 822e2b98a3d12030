"""``ReflectedVEScheduler``: reflected diffusion behind the scheduler contract of diffusers.

diffusers is imported when the class is first asked for; without it that raises ``MissingExtraError``::

    from mirrorgen.diffusion import ReflectedVEScheduler

    scheduler = ReflectedVEScheduler(low=-1.0, high=1.0)
    scheduler.set_timesteps(100)
    sample = torch.normal(0.0, scheduler.init_noise_sigma, (16, 3, 32, 32))
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(sample, t), t).sample
        sample = scheduler.step(output, t, sample).prev_sample

The model embeds timesteps from 0 to ``num_train_timesteps``, as ``UNet2DModel`` does by default. Its output is
``sigma * score``, which ``ReflectedDiffusion.scaled_score`` returns and which training finds in ``get_target``. No
estimate of the clean image follows from it: Tweedie's formula does not hold for reflected noise, and near the walls
minus the noise is no target.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel.box import BoxHeatKernel
from mirrorgen.diffusion.reverse import resolve_step
from mirrorgen.diffusion.schedules import GeometricSchedule, Grid, sigma_grid
from mirrorgen.diffusion.steps import ReverseStep, move
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError
from mirrorgen.geometry.domains import Box
from mirrorgen.geometry.extent import extent
from mirrorgen.geometry.validation import validation

if TYPE_CHECKING:
    ReflectedVEScheduler: Any

__all__ = ["ReflectedVE", "ReflectedVEScheduler"]

Generators = torch.Generator | Sequence[torch.Generator] | None


class ReflectedVE:
    """All that the scheduler does; ``_scheduler_class`` adds what diffusers contributes, the configuration.

    Pixels are points of a one-dimensional box, so that samples may have any shape.
    """

    order = 1
    timesteps: Tensor
    sigmas: Tensor

    def _set_up(
        self,
        num_train_timesteps: int,
        sigma_min: float | None,
        sigma_max: float | None,
        low: float,
        high: float,
        method: str,
        grid: Grid,
    ) -> None:
        step = resolve_step(method)
        if not isinstance(step, ReverseStep) or step.evaluations != 1:
            raise DomainError(
                f"a scheduler is given one output of the model per step, which is not enough for method={method!r}; "
                "use 'em', 'ancestral' or 'euler'"
            )
        self._kernel = BoxHeatKernel(Box(low, high))
        self._center, width, usual = 0.5 * (low + high), extent(self._kernel.domain), GeometricSchedule()
        self.schedule = GeometricSchedule(
            width * usual.sigma_min if sigma_min is None else sigma_min,
            width * usual.sigma_max if sigma_max is None else sigma_max,
        )
        self._step, self._grid, self._unit, self._half_width = step, grid, num_train_timesteps, 0.5 * width
        self.set_timesteps(num_train_timesteps)

    def __len__(self) -> int:
        return self._unit

    @property
    def init_noise_sigma(self) -> float:
        """Factor of the standard normal noise to start from.

        Folded into the range, as ``scale_model_input`` and ``step`` do, it is uniform for practical purposes. Uniform
        noise in the range serves as well; standard normal noise without this factor is not spread enough.
        """
        return self.schedule.sigma_max

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Set ``timesteps (num_inference_steps,)``, decreasing, and ``sigmas``, which has the last level too.

        A timestep is the time of its level in the schedule, between 0 and 1, times ``num_train_timesteps``.
        """
        self.sigmas = sigma_grid(self.schedule.sigma_max, self.schedule.sigma_min, num_inference_steps, self._grid)
        self.timesteps = (self._unit * self.schedule.time(self.sigmas[:-1])).float().to(device)
        self.num_inference_steps = num_inference_steps

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """``sample`` mapped from its range to [-1, 1], where the model works."""
        return (self._folded(sample) - self._center) / self._half_width

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor | float) -> Tensor:
        """Samples in the law of the heat kernel at the levels of ``timesteps``, for standard normal ``noise``.

        Args:
            original_samples: Images in the range, ``(n, ...)``, float32 or float64.
            noise: Of the same shape.
            timesteps: One per image, ``(n,)``, or one number; integers, as training scripts draw them, will do.
        """
        displacement = self._sigma(timesteps, original_samples) * noise
        with validation(False):
            return self._moved(original_samples, displacement)

    def get_target(self, original_samples: Tensor, noisy_samples: Tensor, timesteps: Tensor | float) -> Tensor:
        """What the model learns to return: ``sigma grad log k_sigma(noisy | original)``, ``k`` the heat kernel."""
        sigma = self._sigma(timesteps, original_samples)
        pair = noisy_samples.unsqueeze(-1), original_samples.unsqueeze(-1)
        return sigma * self._kernel.to(sigma.device).score(*pair, sigma.expand_as(noisy_samples)).squeeze(-1)

    def _previous(self, output: Tensor, timestep: Tensor | float, sample: Tensor, generator: Generators) -> Tensor:
        """The sample one level below ``timestep``, strictly inside the range."""
        if output.shape != sample.shape:
            shapes = f"{tuple(output.shape)} and {tuple(sample.shape)}"
            raise ShapeError(f"the output of the model must have the shape of the sample, got {shapes}")
        if isinstance(generator, Sequence):
            if len(generator) != len(sample):
                raise ShapeError(f"{len(generator)} generators cannot serve {len(sample)} samples, one each")
            rows = zip(output.split(1), sample.split(1), generator, strict=True)
            return torch.cat([self._previous(f, timestep, x, one) for f, x, one in rows])
        # Users of diffusers hold generators of the processor for samples on an accelerator.
        device = sample.device if generator is None else generator.device
        x, f = (v.to(device, sample.dtype).unsqueeze(-1) for v in (self._folded(sample), output))
        high, low = self.sigmas[self._index(timestep) :][:2].to(device, sample.dtype)
        with validation(False):
            end = self._step.step(self._box(x), lambda _, sigma: f / sigma, x, high, low, generator)
        return end.squeeze(-1).to(sample.device)

    def _index(self, timestep: Tensor | float) -> int:
        gap = (self.timesteps.cpu() - float(timestep)).abs()
        index = int(gap.argmin())
        if not float(gap[index]) < 1e-3 * self._unit / self.num_inference_steps:
            raise DomainError(f"timestep {float(timestep):g} is none of scheduler.timesteps; take them from there")
        return index

    def _sigma(self, timesteps: Tensor | float, like: Tensor) -> Tensor:
        """Deviations at timesteps, with axes for the pixels."""
        time = torch.as_tensor(timesteps, device=like.device).to(like.dtype) / self._unit
        return self.schedule.sigma(time.reshape(*time.shape, *[1] * (like.ndim - 1)) if time.ndim else time)

    def _box(self, like: Tensor) -> Box:
        return self._kernel.to(like.device).domain

    def _moved(self, sample: Tensor, displacement: Tensor) -> Tensor:
        return move(self._box(sample), sample.unsqueeze(-1), displacement.unsqueeze(-1)).squeeze(-1)

    def _folded(self, sample: Tensor) -> Tensor:
        """``sample`` with pixels outside the range reflected into it, the others unchanged."""
        with validation(False):
            inside = self._box(sample).contains(sample.unsqueeze(-1))
            center = torch.full_like(sample, self._center)
            return torch.where(inside, sample, self._moved(center, sample - center))


@cache
def _scheduler_class() -> type:
    try:
        from diffusers import ConfigMixin, SchedulerMixin
        from diffusers.configuration_utils import register_to_config
        from diffusers.schedulers.scheduling_utils import SchedulerOutput
    except ImportError as error:
        raise MissingExtraError.for_extra("diffusers", "images") from error

    class ReflectedVEScheduler(ReflectedVE, SchedulerMixin, ConfigMixin):
        """Reverse steps of reflected diffusion in a range of pixel values, for models of ``sigma * score``.

        Levels and steps are those of ``mirrorgen.diffusion``: ``GeometricSchedule``, ``sigma_grid``, and a
        ``ReverseStep`` that evaluates the model once. Samples are float32 or float64, whatever the precision of the
        model, and strictly inside the range. They must start from noise times ``init_noise_sigma``, which pipelines
        for models of unit variance (``DDPMPipeline``) leave out.

        Args:
            num_train_timesteps: What time 1 of the schedule is called in ``timesteps``.
            sigma_min: Deviation that counts as none; if None, 0.01 times the width of the range.
            sigma_max: Deviation at which samples are uniform; if None, 1.5 times the width of the range.
            low: Lower end of the range.
            high: Upper end.
            method: ``"ancestral"``, ``"em"`` or ``"euler"`` (deterministic).
            grid: Spacing of the levels, see ``sigma_grid``.

        Raises:
            DomainError: If a number is out of range or the method needs more than one output of the model.

        Source: Lou, Ermon, "Reflected Diffusion Models", 2023.
        """

        @register_to_config
        def __init__(
            self,
            num_train_timesteps: int = 1000,
            sigma_min: float | None = None,
            sigma_max: float | None = None,
            low: float = 0.0,
            high: float = 1.0,
            method: str = "ancestral",
            grid: Grid = "rho",
        ) -> None:
            self._set_up(num_train_timesteps, sigma_min, sigma_max, low, high, method, grid)

        def step(
            self,
            model_output: Tensor,
            timestep: Tensor | float,
            sample: Tensor,
            generator: Generators = None,
            return_dict: bool = True,
        ) -> "SchedulerOutput | tuple[Tensor]":
            """The sample at the next level, as ``SchedulerOutput`` with ``prev_sample`` or as a tuple.

            Args:
                model_output: ``sigma * score`` at ``sample``, of its shape.
                timestep: The member of ``timesteps`` at which ``sample`` is.
                sample: Images ``(n, ...)``.
                generator: Source of noise, or one per image.
                return_dict: Whether the answer is a ``SchedulerOutput``.
            """
            previous = self._previous(model_output, timestep, sample, generator)
            return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)

    # Found again under this name by pickle, and by pipelines that load their parts.
    ReflectedVEScheduler.__module__, ReflectedVEScheduler.__qualname__ = __name__, "ReflectedVEScheduler"
    return ReflectedVEScheduler


def __getattr__(name: str) -> object:
    if name == "ReflectedVEScheduler":
        return _scheduler_class()
    if name == "SchedulerMixin":
        # Pipelines that load their parts look for the base class in the module of the part.
        return next(base for base in _scheduler_class().__mro__ if base.__name__ == name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
