"""The input-convex perceptron: a scalar function that is convex whatever its weights."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import softplus, softplus_inverse

__all__ = ["InputConvexMLP"]


class InputConvexMLP(nn.Module):
    """A smooth convex function ``f: R^dim -> R`` with bounded gradient.

    With ``u = (x - center) / scale``, ``sp`` the softplus and every ``W``, ``w`` passed through it too::

        h_1 = sp(A_1 u + b_1),   h_l = sp(sp(W_l) h_{l-1} + A_l u + b_l),   f(x) = sp(w) . h_L + a . u

    Non-negative combinations of convex functions are convex, and so are increasing convex functions of them; the
    skip connections ``A_l`` and ``a`` may have any sign. The gradient is bounded because the softplus has slopes in
    (0, 1), and ``f`` is infinitely smooth.

    Gradient and Hessian are closed forms. Initial weights are a function of the arguments: a specification rebuilds
    the same function.

    Source: Amos, Xu and Kolter, "Input Convex Neural Networks" (2017); Huang et al., "Convex Potential Flows:
    Universal Probability Distributions with Optimal Transport and Convex Optimization" (2021).

    Args:
        dim: Number of coordinates of a point.
        hidden: Widths of the hidden layers, at least one.
        gain: Sum of the initial output weights ``sp(w)``: the size of the untrained function, small by default.
        scale: Length over which the function may bend, about the deviation of the data.
        center: Where the data are, one number per coordinate; the origin if None.
        seed: Of the initial weights.

    Raises:
        ShapeError: If a width is not positive or ``center`` has not ``dim`` numbers.
        DomainError: If ``gain`` or ``scale`` is not positive.
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (64, 64),
        gain: float = 1e-2,
        scale: float = 1.0,
        center: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dim < 1 or not hidden or min(hidden) < 1:
            raise ShapeError(f"dim and every width in hidden are at least 1; got dim={dim}, hidden={tuple(hidden)}")
        if not (gain > 0 and scale > 0):
            raise DomainError(f"gain and scale must be positive, got {gain} and {scale}")
        if center is not None and len(center) != dim:
            raise ShapeError(f"center must hold {dim} numbers, got {len(center)}")
        self.dim, self.hidden, self.gain, self.scale, self.seed = dim, tuple(hidden), float(gain), float(scale), seed
        self.center = None if center is None else tuple(float(c) for c in center)
        generator = torch.Generator().manual_seed(seed)
        self.skips = nn.ModuleList(nn.Linear(dim, width) for width in self.hidden)
        pairs = zip(self.hidden, self.hidden[1:], strict=False)
        self.raw_weights = nn.ParameterList(_raw((after, before), 1.0, generator) for before, after in pairs)
        self.raw_output = nn.Parameter(_raw((self.hidden[-1],), self.gain, generator))
        self.slope = nn.Parameter(torch.zeros(dim))
        with torch.no_grad():
            for layer in self._skips:
                layer.weight.normal_(generator=generator).mul_(dim**-0.5)
                layer.bias.uniform_(-1.0, 1.0, generator=generator)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, hidden={self.hidden}, scale={self.scale:g}"

    def forward(self, x: Tensor) -> Tensor:
        """``f(x)``, shape ``(...)``, computed in the dtype of ``x`` whatever that of the weights.

        Args:
            x: Points ``(..., dim)``.

        Raises:
            ShapeError: If the last axis is not ``dim``.
        """
        u, layers = self._layers(x)
        return softplus(layers[-1].value) @ self._output(u) + u @ self.slope.to(u)

    def gradient(self, x: Tensor) -> Tensor:
        """``grad f(x)``, ``(..., dim)``."""
        u, layers = self._layers(x)
        total = self.slope.to(u).expand_as(u)
        for layer, weight in zip(layers, self._sensitivities(u, layers), strict=True):
            total = total + (weight * torch.sigmoid(layer.value)) @ layer.skip
        return total / self.scale

    def hessian(self, x: Tensor) -> Tensor:
        """``D^2 f(x) = sum_l P_l^T diag(c_l) P_l`` with ``c_l > 0``, ``(..., dim, dim)``.

        ``P_l`` is the Jacobian of the pre-activation ``p_l`` and ``c_l = (df/dh_l) sp''(p_l)``.
        """
        u, layers = self._layers(x)
        jacobian = layers[0].skip
        total = u.new_zeros(())
        for layer, weight in zip(layers, self._sensitivities(u, layers), strict=True):
            slope = torch.sigmoid(layer.value)
            curvature = weight * slope * torch.sigmoid(-layer.value)
            jacobian = jacobian if layer.mixing is None else layer.mixing @ jacobian + layer.skip
            total = total + (jacobian.mT * curvature.unsqueeze(-2)) @ jacobian
            jacobian = slope.unsqueeze(-1) * jacobian
        return total / self.scale**2

    @property
    def _skips(self) -> list[nn.Linear]:
        """The skip connections as a typed list."""
        return [m for m in self.skips if isinstance(m, nn.Linear)]

    def _layers(self, x: Tensor) -> tuple[Tensor, list["_Layer"]]:
        """``u`` and the layers, first to last."""
        if x.ndim == 0 or x.shape[-1] != self.dim or not x.is_floating_point():
            raise ShapeError(f"x must be floating point of shape (..., {self.dim}), got {x.dtype}, {tuple(x.shape)}")
        u = x / self.scale if self.center is None else (x - torch.tensor(self.center).to(x)) / self.scale
        layers: list[_Layer] = []
        for raw, linear in zip([None, *self.raw_weights], self._skips, strict=True):
            skip, mixing = linear.weight.to(u), None if raw is None else softplus(raw.to(u))
            value = u @ skip.mT + linear.bias.to(u)
            if mixing is not None:
                value = value + softplus(layers[-1].value) @ mixing.mT
            layers.append(_Layer(value, skip, mixing))
        return u, layers

    def _output(self, u: Tensor) -> Tensor:
        return softplus(self.raw_output.to(u))

    def _sensitivities(self, u: Tensor, layers: list["_Layer"]) -> list[Tensor]:
        """``df/dh_l >= 0`` of every layer, first to last."""
        weights = [self._output(u).expand_as(layers[-1].value)]
        for layer in reversed(layers[1:]):
            if layer.mixing is not None:
                weights.append((weights[-1] * torch.sigmoid(layer.value)) @ layer.mixing)
        return weights[::-1]


class _Layer(NamedTuple):
    """Pre-activations ``p_l (..., width)``, the skip ``A_l`` and ``sp(W_l)``, None in the first layer."""

    value: Tensor
    skip: Tensor
    mixing: Tensor | None


def _raw(shape: tuple[int, ...], total: float, generator: torch.Generator) -> Tensor:
    """Weights whose softplus sums to about ``total`` along the last axis."""
    spread = 0.5 + torch.rand(shape, generator=generator)
    return softplus_inverse(spread * (total / shape[-1]))
