"""Mirror diffusion: a diffusion in the dual of a mirror map."""

import math

from torch import Tensor

from mirrorgen.diffusion.free_diffusion import FreeDiffusion
from mirrorgen.diffusion.schedules import GeometricSchedule, Schedule
from mirrorgen.geometry.dual_coordinates import DualCoordinates
from mirrorgen.geometry.dual_transform import DualTransform
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.nets import Net

__all__ = ["MirrorDiffusion"]


class MirrorDiffusion(DualCoordinates, FreeDiffusion):
    """``FreeDiffusion`` of dual points ``u = T(grad phi(x))``; samples are mapped back and lie strictly inside.

    Noise explodes here, where the publication lets the data vanish: one is the other with the space rescaled at every
    level, and the family of laws is the same. As there, everything depends on the tails of the dual data: a map under
    which they have no variance gives a score that no network fits.

    Args:
        mirror_map: A map of a bounded domain whose dual is all of ``R^d`` (``dual_is_full``).
        net: Network ``net(u, t, condition)`` on ``mirror_map.domain.dual_dim`` coordinates.
        schedule: Noise levels in the coordinates ``u``; if None, geometric from 0.01 to 50.
        dual_transform: ``"standardize"`` for ``RobustStandardize()``, another transform, or None for none; data are
            taken to have unit deviation after it.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.

    Raises:
        ShapeError: If the network's dimension is not the dual dimension.
        DomainError: If the map's dual is not all of ``R^d`` or a part is of the wrong kind.

    Source: Liu, Chen, Theodorou, Tao, "Mirror Diffusion Models for Constrained and Watermarked Generation", 2023.
    """

    def __init__(
        self,
        mirror_map: MirrorMap,
        net: Net,
        schedule: Schedule | None = None,
        dual_transform: DualTransform | str | None = "standardize",
        condition_dropout: float = 0.1,
    ) -> None:
        self._check_map(mirror_map)
        super().__init__(mirror_map.domain, net, schedule, condition_dropout)
        self._set_dual(mirror_map, dual_transform)
        self.center.zero_()
        self._half_width = self._variance = 1.0

    @staticmethod
    def default_schedule(width: float) -> Schedule:
        return GeometricSchedule(0.01, 50.0)

    def _to_space(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def _from_space(self, z: Tensor) -> Tensor:
        return self.decode(z)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._prepared(x)

    def _last_log_prob(self, z: Tensor) -> Tensor:
        variance = self._variance + self.schedule.sigma_max**2
        return -0.5 * (z.square().sum(-1) / variance + z.shape[-1] * math.log(2 * math.pi * variance))
