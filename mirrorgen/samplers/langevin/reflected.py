"""Reflected Langevin."""

from dataclasses import dataclass

from torch import Tensor

from mirrorgen.samplers.langevin.primal import PrimalLangevin

__all__ = ["ReflectedLangevin"]


@dataclass(frozen=True, eq=False)
class ReflectedLangevin(PrimalLangevin):
    """The end of the specular path of length ``|v|`` along ``v = h grad log p(x) + sqrt(2h) xi`` from ``x``.

    Unadjusted: a discretisation of the diffusion that the boundary reflects. Reflection preserves the uniform law, for
    which the chain is exact at every step size; for other laws the bias is that of the drift. No atoms.

    One step costs one gradient and one billiard path.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``.
        space: The domain.
        step_size: ``h``, positive.

    Source: Sato, Takeda, Kawai, Suzuki, "Convergence error analysis of reflected gradient Langevin dynamics for
    non-convex constrained optimization", 2025.
    """

    def _arrive(self, x: Tensor, step: Tensor) -> Tensor:
        return self.space.reflect(x, step)
