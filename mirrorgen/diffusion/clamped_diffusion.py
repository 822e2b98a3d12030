"""The comparator: diffusion in free space that does not know the domain, whose samples are put inside at the end."""

from torch import Tensor

from mirrorgen.diffusion.free_diffusion import FreeDiffusion
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule
from mirrorgen.geometry.domains import Domain
from mirrorgen.nets import Net

__all__ = ["ClampedDiffusion"]


class ClampedDiffusion(FreeDiffusion):
    """``FreeDiffusion`` of the chart coordinates; samples are projected.

    It is what one has without reflections, for comparison: projection puts the mass that the model has outside onto
    the boundary, and the law of the samples has no density. Thresholding the predicted data on the way
    (``Thresholding``) mends a part of it. The data are taken to have the deviation of the uniform law along the longest
    axis of the domain.

    Args:
        domain: A bounded domain.
        net: Network ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates.
        schedule: Noise levels; if None, geometric from 0.01 to 5 times the ``extent`` of the domain: free noise has to
            drown the data, which takes more than forgetting them between walls.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
    """

    def __init__(
        self, domain: Domain, net: Net, schedule: Schedule | None = None, condition_dropout: float = 0.1
    ) -> None:
        super().__init__(domain, net, schedule, condition_dropout)

    @staticmethod
    def default_schedule(width: float) -> Schedule:
        return GeometricSchedule(0.01 * width, 5.0 * width)

    def _to_space(self, x: Tensor) -> Tensor:
        return self.domain.to_chart(x)

    def _from_space(self, z: Tensor) -> Tensor:
        return self.domain.pull_inside(self.domain.project(self.domain.from_chart(z)))[0]

    def _why_no_density(self) -> str | None:
        return "the projection of its samples puts mass on the walls"
