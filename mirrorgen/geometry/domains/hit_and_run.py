"""Uniform points of a bounded polytope by hit-and-run."""

import torch
from torch import Tensor

__all__ = ["hit_and_run", "mixing_steps"]


def mixing_steps(dim: int) -> int:
    """Steps that every chain takes from the centre to its one point."""
    return 30 + 12 * dim + 4 * dim * dim


@torch.no_grad()
def hit_and_run(
    A: Tensor, b: Tensor, center: Tensor, n: int, steps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Last points ``(n, k)`` of ``n`` independent hit-and-run chains in ``{A z < b}``, float64.

    Each step draws a random direction and a uniform point of the chord along it (Smith, "Efficient Monte Carlo
    procedures for generating points uniformly distributed over bounded regions", 1984). Directions are
    isotropic after the affine change that makes the log barrier's Hessian at the centre the identity, so the
    law of the chain does not depend on the scaling of the set.

    Args:
        A: Unit rows ``(m, k)`` of a bounded set.
        b: Right-hand sides ``(m,)``.
        center: A well-centred interior point ``(k,)``, the start of every chain.
        n: Number of chains.
        steps: Steps per chain.
        generator: Source of randomness.
    """
    slack = b - A @ center
    # R^T R is the Hessian; a triangular factor by QR keeps the digits that forming it would lose.
    factor = torch.linalg.qr(A / slack.unsqueeze(-1))[1]
    rows = torch.linalg.solve_triangular(factor, A / slack.unsqueeze(-1), upper=True, left=False)
    u = A.new_zeros(n, A.shape[1])
    for _ in range(steps):
        direction = torch.randn(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        room, speed = 1 - u @ rows.mT, direction @ rows.mT
        rate = speed / room.clamp_min(1e-300)
        ahead, behind = 1 / rate.amax(-1), 1 / rate.amin(-1)
        place = torch.rand(n, generator=generator, dtype=u.dtype, device=u.device)
        u = u + torch.lerp(behind, ahead, place).unsqueeze(-1) * direction
    return center + torch.linalg.solve_triangular(factor.mT, u, upper=False, left=False)
