"""Variance-exploding diffusion of coordinates in all of ``R^d``: what models share whose noise meets no wall."""

import torch
from torch import Tensor

from mirrorgen.diffusion.heat_kernel import EuclideanHeatKernel, random_step
from mirrorgen.diffusion.objectives import Denoising, ScaledScore
from mirrorgen.diffusion.schedules import Schedule
from mirrorgen.diffusion.score_model import ScoreModel
from mirrorgen.geometry.domains import Domain, Euclidean
from mirrorgen.nets import Net

__all__ = ["FreeDiffusion"]


class FreeDiffusion(ScoreModel):
    """Denoising score matching with normal noise in the coordinates that ``_to_space`` gives points of the domain.

    The network corrects the score of isotropic data of deviation ``s`` about the centre ``c``:
    ``sigma score(z) = net((z - c) / sqrt(w^2 + sigma^2), t) - sigma (z - c) / (s^2 + sigma^2)``, with ``w`` half the
    width of the data.

    Source: Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021; the scaling
    of inputs: Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", 2022.
    """

    def __init__(self, domain: Domain, net: Net, schedule: Schedule | None, condition_dropout: float) -> None:
        super().__init__(domain, net, schedule, condition_dropout)
        self.space = Euclidean(domain.dual_dim)
        self._objective = Denoising(EuclideanHeatKernel(self.space))
        # The deviation of the uniform law on an interval is half its width over sqrt(3).
        self._variance = self._half_width**2 / 3

    def errors(self, f: ScaledScore, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Tensor:
        return self._objective.loss(self.space, f, x, sigmas, generator)

    def _scaled_input(self, u: Tensor, sigma: Tensor) -> Tensor:
        return u / torch.sqrt(1 + (sigma / self._half_width).square()).unsqueeze(-1)

    def _from_output(self, x: Tensor, value: Tensor, sigma: Tensor) -> Tensor:
        spread = sigma.to(x.dtype).unsqueeze(-1)
        return value - spread * (x - self.center.to(x.dtype)) / (self._variance + spread.square())

    def _prior(self, n: int, generator: torch.Generator | None) -> Tensor:
        many = self.center.expand(n, -1)
        return many + random_step(self.space, many, self.schedule.sigma_max, generator=generator)
