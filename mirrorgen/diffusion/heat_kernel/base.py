"""The contract of a Neumann heat kernel: the transition density of Brownian motion reflected at the walls."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.validation import check_shape, should_check

__all__ = ["HeatKernel", "random_step"]


def random_step(
    domain: Domain, x: Tensor, sigma: Tensor | float, *, generator: torch.Generator | None = None
) -> Tensor:
    """Isotropic normal displacements of deviation ``sigma`` along the affine hull of a domain, the shape of ``x``.

    Args:
        domain: The set that holds ``x``.
        x: Points ``(*batch, dim)``, for shape, dtype and device.
        sigma: Deviation, one number or ``(*batch)``.
        generator: Source of randomness on the device of ``x``.
    """
    shape = (*x.shape[:-1], domain.dual_dim)
    noise = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
    return domain.from_tangent(per_point(sigma, x) * noise)


def per_point(sigma: Tensor | float, x: Tensor) -> Tensor:
    """``sigma`` in the dtype of ``x``, with an axis for the coordinates if there is one value per point.

    Raises:
        ShapeError: If ``sigma`` is neither one number nor of the batch shape of ``x``.
        DomainError: If a value is not positive and finite.
    """
    value = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if value.ndim and value.shape != x.shape[:-1]:
        raise ShapeError(f"sigma must be one number or of shape {tuple(x.shape[:-1])}, got {tuple(value.shape)}")
    if should_check(value) and not bool(((value > 0) & torch.isfinite(value)).all()):
        raise DomainError("sigma must be positive and finite; there is no density at time zero")
    return value.unsqueeze(-1) if value.ndim else value


class HeatKernel(nn.Module, ABC):
    """Law of Brownian motion from ``x_0``, reflected at the walls of a domain, when its variance is ``sigma^2``.

    ``p_sigma(x | x_0)`` solves ``dp / d(sigma^2) = (1/2) Laplace p`` in ``x`` with ``dp/dn = 0`` on the boundary, and
    is the point mass at ``x_0`` for ``sigma = 0``. It is symmetric in its points and, on bounded sets, tends to the
    uniform density. Where the domain has equalities the motion runs in its affine hull. Densities are in the measure
    of the domain (``Domain``).

    A subclass implements ``_log_prob_and_score`` on points of the closure. Points on a wall are allowed: the density
    is finite there, and the normal component of the score is zero.

    Args:
        domain: The set.
    """

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain

    @abstractmethod
    def _log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density ``(*batch)`` and its gradient in ``x``, ``(*batch, dim)``, along the affine hull.

        Args:
            x: Points of the closure ``(*batch, dim)``.
            x_0: Points of the closure, the same shape and dtype.
            sigma: One number ``()`` or ``(*batch, 1)``, in the dtype of ``x``.
        """

    def log_prob(self, x: Tensor, x_0: Tensor, sigma: Tensor | float) -> Tensor:
        """``log p_sigma(x | x_0)``, ``(*batch)``; ``-inf`` where ``x`` is outside the closure.

        Args:
            x: Points ``(*batch, dim)``.
            x_0: Starting points, broadcast against ``x``.
            sigma: Deviation of the unreflected motion, in the units of ``x``: one number or ``(*batch)``.

        Raises:
            ShapeError: If shapes do not fit.
            DomainError: If ``sigma`` is not positive, or ``x_0`` is outside the closure.
        """
        return self.log_prob_and_score(x, x_0, sigma)[0]

    def score(self, x: Tensor, x_0: Tensor, sigma: Tensor | float) -> Tensor:
        """``grad_x log p_sigma(x | x_0)``, ``(*batch, dim)``; arguments as in ``log_prob``."""
        return self.log_prob_and_score(x, x_0, sigma)[1]

    def log_prob_and_score(self, x: Tensor, x_0: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """Both from one evaluation; arguments as in ``log_prob``. The score is zero where the density is."""
        for name, value in (("x", x), ("x_0", x_0)):
            check_shape(value, self.domain.dim, name)
        x, x_0 = torch.broadcast_tensors(x, x_0.to(x))
        spread = per_point(sigma, x)
        if should_check(x_0) and not bool(self._in_closure(x_0).all()):
            raise DomainError(f"x_0: {self.domain.explain(x_0)}; a motion starts in the domain")
        inside = self._in_closure(x)
        # Points outside are replaced: what is computed there would give NaN gradients even where it is not used.
        safe = torch.where(inside.unsqueeze(-1), x, x_0)
        log_prob, score = self._log_prob_and_score(safe, x_0, spread)
        return torch.where(inside, log_prob, -torch.inf), torch.where(inside.unsqueeze(-1), score, 0.0)

    def _in_closure(self, x: Tensor) -> Tensor:
        """Whether points are in the closure up to rounding, ``(*batch)``."""
        atol = 8 * torch.finfo(x.dtype).eps * (1 + x.detach().abs().amax(-1))
        residual = self.domain.equality_residual(x)
        inside, slack = atol < torch.inf, self.domain.slack(x)
        if slack.shape[-1]:
            # By reductions: comparing all slacks costs several times as much. A NaN is the least of its row.
            inside = inside & (slack.amin(-1) >= -atol)
        return inside if residual is None else inside & (residual <= 4.0)

    def sample(self, x_0: Tensor, sigma: Tensor | float, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the motion, ``(*batch, dim)``, strictly inside in the dtype of ``x_0``.

        One reflected step is exact wherever reflections of the domain tile the space, which is the case here unless
        a subclass says otherwise.
        """
        return self.domain.reflect(x_0, random_step(self.domain, x_0, sigma, generator=generator))
