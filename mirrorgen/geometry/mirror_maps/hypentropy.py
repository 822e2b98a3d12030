"""The hyperbolic entropy, between gradient descent and exponentiated gradient."""

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains.base import as_buffer
from mirrorgen.geometry.domains.euclidean import Euclidean
from mirrorgen.geometry.mirror_maps.base import SeparableMap
from mirrorgen.geometry.mirror_maps.requirements import require_domain, require_positive
from mirrorgen.numerics import saturating_exp
from mirrorgen.special import expm1_gap

__all__ = ["Hypentropy"]


class Hypentropy(SeparableMap):
    """``phi(x) = sum x asinh(x / beta) - sqrt(x^2 + beta^2)`` on all of space.

    ``grad phi = asinh(x / beta)``, ``x = beta sinh(y)``, ``phi*(y) = sum beta cosh(y)``, curvature
    ``1 / sqrt(x^2 + beta^2)``. Small ``beta`` behaves as exponentiated gradient with signs, large ``beta`` as
    gradient descent. Where ``beta sinh(y)`` overflows, ``to_primal`` returns the largest number of the dtype,
    counts the point as moved and has derivative zero.

    Args:
        domain: A ``Euclidean`` space.
        beta: Scale of the transition, positive: a number, or one per coordinate ``(dim,)``.

    Raises:
        DomainError: If the domain is not Euclidean or ``beta`` is not positive.
        ShapeError: If ``beta`` has not one entry per coordinate.

    Reference: U. Ghai, E. Hazan and Y. Singer, "Exponentiated gradient meets gradient descent", 2020.
    """

    beta: Tensor | float

    def __init__(self, domain: Euclidean, beta: float | Tensor | list[float] = 1.0) -> None:
        require_domain(domain, Euclidean, name="Hypentropy")
        super().__init__(domain)
        if isinstance(beta, int | float):
            self.beta = require_positive(beta, name="beta")
            return
        scales = as_buffer(beta).clone()
        if scales.shape != (domain.dim,):
            raise ShapeError(f"beta must be a number or of shape ({domain.dim},), got {tuple(scales.shape)}")
        if not bool((torch.isfinite(scales) & (scales > 0)).all()):
            raise DomainError("every entry of beta must be finite and positive")
        self.register_buffer("beta", scales)

    def extra_repr(self) -> str:
        return (
            f"beta={self.beta:g}"
            if isinstance(self.beta, float)
            else f"beta in [{self.beta.min():g}, {self.beta.max():g}]"
        )

    def scale(self, x: Tensor) -> Tensor:
        """``beta`` in the dtype and on the device of ``x``: a number ``()`` or ``(dim,)``."""
        return torch.as_tensor(self.beta, dtype=x.dtype, device=x.device)

    def _root(self, x: Tensor) -> Tensor:
        return torch.hypot(x, self.scale(x))

    def _potential(self, x: Tensor) -> Tensor:
        return x * self._gradient(x) - self._root(x)

    def _gradient(self, x: Tensor) -> Tensor:
        return torch.asinh(x / self.scale(x))

    def _inverse(self, y: Tensor) -> Tensor:
        # Beyond 20 the smaller exponential is below rounding, and the larger takes beta into its exponent.
        limited = torch.clamp(y, -20.0, 20.0)
        size = torch.where(y.abs() > 20, y.abs(), torch.full_like(y, 20.0))
        beta = self.scale(y)
        far = torch.sign(y) * saturating_exp(size + torch.log(0.5 * beta))
        return torch.where(y.abs() > 20, far, beta * torch.sinh(limited))

    def _conjugate(self, y: Tensor) -> Tensor:
        return self.scale(y) * torch.cosh(y)

    def _curvature(self, x: Tensor) -> Tensor:
        return 1 / self._root(x)

    def _curvature_dual(self, y: Tensor) -> Tensor:
        return 1 / (self.scale(y) * torch.cosh(y))

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        return -(torch.logaddexp(y, -y) + torch.log(0.5 * self.scale(y))).sum(-1)

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        """Minus ``tanh y``."""
        return -torch.tanh(y)

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """With ``p = beta sinh a`` and ``d = asinh(q / beta) - a``: ``sum beta / 2 (e^a g(d) + e^-a g(-d))``.

        Both terms are positive, ``g(d) = e^d - 1 - d``. Signs are flipped so that ``a >= 0``, and ``d`` comes
        from ``q - p``, not from the difference of two inverse sines.
        """
        sign = torch.where(p < 0, -torch.ones_like(p), torch.ones_like(p))
        p, q = sign * p, sign * q
        p_root, q_root = self._root(p), self._root(q)
        rising = p + p_root
        same_side = q >= 0
        ratio = torch.where(same_side, (q - p) * (1 + (q + p) / (q_root + p_root)) / rising, torch.zeros_like(q))
        gap = torch.where(same_side, torch.log1p(ratio), self._gradient(q) - self._gradient(p))
        falling = self.scale(p).square() / rising
        # rising e^gap and falling e^-gap in terms of q, where the exponential itself may overflow.
        up = _weighted_gap(rising, gap, q + q_root)
        down = _weighted_gap(falling, -gap, q_root - q)
        return 0.5 * (up + down).sum(-1)


def _weighted_gap(weight: Tensor, d: Tensor, weight_exp_d: Tensor) -> Tensor:
    """``weight (e^d - 1 - d)``, given ``weight e^d``."""
    far = d > 1
    near = weight * expm1_gap(torch.where(far, torch.zeros_like(d), d))
    return torch.where(far, weight_exp_d - weight * (1 + d), near)
