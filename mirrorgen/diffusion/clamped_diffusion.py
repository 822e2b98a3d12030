"""The comparator: diffusion in free space that does not know the domain, whose samples are put inside at the end."""

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel import EuclideanHeatKernel, random_step
from mirrorgen.diffusion.objectives import Denoising, ScaledScore
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule
from mirrorgen.diffusion.score_model import ScoreModel
from mirrorgen.geometry.domains import Domain, Euclidean
from mirrorgen.nets import Net

__all__ = ["ClampedDiffusion"]


class ClampedDiffusion(ScoreModel):
    """Variance-exploding diffusion of the chart coordinates in all of ``R^dual_dim``; samples are projected.

    It is what one has without reflections, for comparison: projection puts the mass that the model has outside onto
    the boundary, and the law of the samples has no density. Thresholding the predicted data on the way
    (``Thresholding``) mends a part of it.

    The network corrects the score of isotropic data of deviation ``s``, that of the uniform law along the longest axis
    of the domain: ``sigma score(z) = net(z / sqrt(1 + sigma^2 / w^2), t) - sigma (z - c) / (s^2 + sigma^2)`` with ``w``
    half the extent.

    Args:
        domain: A bounded domain.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels; if None, geometric from 0.01 to 5 times the ``extent`` of the domain: free noise has to
            drown the data, which takes more than forgetting them between walls.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Source: Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021; the scaling
    of inputs: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022.
    """

    def __init__(
        self, domain: Domain, net: Net, schedule: Schedule | None = None, condition_dropout: float = 0.1
    ) -> None:
        super().__init__(domain, net, schedule, condition_dropout)
        self.space = Euclidean(domain.dual_dim)
        self._objective = Denoising(EuclideanHeatKernel(self.space))

    @staticmethod
    def default_schedule(width: float) -> Schedule:
        return GeometricSchedule(0.01 * width, 5.0 * width)

    def errors(self, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._objective.loss(self.space, f, x, sigmas, generator)

    def _scaled_input(self, u: Tensor, sigma: Tensor) -> Tensor:
        return u / torch.sqrt(1 + (sigma / self._half_width).square()).unsqueeze(-1)

    def _from_output(self, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
        spread = sigma.to(x.dtype).unsqueeze(-1)
        # The deviation of the uniform law on an interval is half its width over sqrt(3).
        return value - spread * (x - self.center.to(x.dtype)) / (self._half_width**2 / 3 + spread.square())

    def _to_space(self, x: Tensor) -> Tensor:
        return self.domain.to_chart(x)

    def _from_space(self, z: Tensor) -> Tensor:
        return self.domain.pull_inside(self.domain.project(self.domain.from_chart(z)))[0]

    def _prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        many = self.center.expand(n, -1)
        return many + random_step(self.space, many, self.schedule.sigma_max, generator=generator)

    def _why_no_density(self) -> str | None:
        return "the projection of its samples puts mass on the walls"
