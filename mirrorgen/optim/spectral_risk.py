"""Distributionally robust learning with spectral risk measures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.optim.permutahedron import Geometry, permutahedron_projection

__all__ = ["Prospect", "ProspectState", "spectral_weights"]

LossGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def spectral_weights(losses: Tensor, sigma: Tensor, shift_cost: float, geometry: Geometry = "euclidean") -> Tensor:
    """``argmax q.l - nu penalty(q)`` over the permutahedron of ``sigma``: how much each loss counts.

    ``"euclidean"``: the penalty is ``(n / 2) |q - 1/n|^2`` (half the chi-square divergence from uniform weights) and
    ``q`` the projection of ``l / (nu n) + 1/n``. ``"kl"``: ``sum q log(n q)``, and ``exp(l / nu) / n`` is projected.

    Args:
        losses: ``(*batch, n)``.
        sigma: The spectrum ``(n,)``: non-negative, non-decreasing, of sum one.
        shift_cost: ``nu``, positive.
        geometry: Which penalty.

    Returns:
        Weights ``(*batch, n)`` of sum one.

    Raises:
        DomainError: If ``shift_cost`` is not positive; see also ``permutahedron_projection``.
        ShapeError: If the last axes differ.
    """
    if not shift_cost > 0:
        raise DomainError(f"shift_cost must be positive, got {shift_cost}")
    n = losses.shape[-1]
    if geometry == "kl":
        # The factor 1 / n and any other common one cancel: all points have the same sum.
        return permutahedron_projection(losses / shift_cost, sigma, geometry)
    return permutahedron_projection(losses / (shift_cost * n) + 1 / n, sigma, geometry)


class ProspectState(NamedTuple):
    """State of ``Prospect``.

    Attributes:
        w: Parameters ``(*batch, d)``.
        losses: Last known losses ``(*batch, n)``.
        weights: Their spectral weights ``(*batch, n)``.
        table: Last gradients of all samples ``(*batch, n, d)``.
        table_weights: The weights that they entered ``mean`` with, ``(*batch, n)``.
        mean: ``sum_i table_weights_i table_i``, ``(*batch, d)``.
    """

    w: Tensor
    losses: Tensor
    weights: Tensor
    table: Tensor
    table_weights: Tensor
    mean: Tensor


@dataclass(frozen=True, eq=False)
class Prospect:
    """``min_w max_q q.l(w) - nu penalty(q) + (mu / 2) |w|^2`` with one sample a step, at a linear rate.

    With sample ``i``, its gradient ``g`` and its loss at ``w``: ``v = n q_i g - n rho_i table_i + mean``,
    ``w+ = (w - lr v) / (1 + lr mu)``; then ``l_i`` is replaced, ``q`` is computed from all losses, and ``g`` with the
    weight it was used with takes its place in table and mean. Plain stochastic gradients on batches are biased for
    these objectives and stop short of the minimum. Memory ``O(n d)``.

    Args:
        loss_gradient: ``(w (*batch, d), i (*batch)) -> losses (*batch), gradients (*batch, d)`` of samples.
        sigma: The spectrum ``(n,)`` or ``(*batch, n)``; see ``cvar_spectrum`` and its siblings.
        lr: Step size.
        shift_cost: ``nu``; see ``spectral_weights``.
        weight_decay: ``mu``.
        geometry: Of the penalty.

    Raises:
        DomainError: If a number is out of range; see also ``permutahedron_projection``.

    Source: Mehta, Roulet, Pillutla, Harchaoui, "Distributionally Robust Optimization with Bias and Variance Reduction",
    2024.
    """

    loss_gradient: LossGradient
    sigma: Tensor
    lr: float
    shift_cost: float = 1.0
    weight_decay: float = 0.0
    geometry: Geometry = "euclidean"

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.shift_cost > 0 and self.weight_decay >= 0):
            raise DomainError("lr and shift_cost must be positive, weight_decay at least zero")

    def init(self, start: Tensor) -> ProspectState:
        """The state at ``start (*batch, d)``, after one pass over all samples.

        Raises:
            ShapeError: If ``loss_gradient`` does not give losses ``(n, *batch)`` for samples ``(n, *batch)``.
        """
        n, batch = self.sigma.shape[-1], start.shape[:-1]
        samples = torch.arange(n, device=start.device).reshape(n, *[1] * len(batch)).expand(n, *batch)
        losses, table = self.loss_gradient(start.expand(n, *start.shape), samples)
        if losses.shape != (n, *batch) or table.shape != (n, *start.shape):
            raise ShapeError(
                f"loss_gradient must give losses {(n, *batch)} and gradients {(n, *start.shape)} for as many samples, "
                f"got {tuple(losses.shape)} and {tuple(table.shape)}"
            )
        losses, table = losses.movedim(0, -1), table.movedim(0, -2)
        weights = self._weights(losses)
        return ProspectState(start, losses, weights, table, weights, (weights.unsqueeze(-1) * table).sum(-2))

    def step(self, state: ProspectState, sample: Tensor) -> ProspectState:
        """One step.

        Args:
            state: Before it.
            sample: Indices ``(*batch)``, drawn uniformly.
        """
        loss, g = self.loss_gradient(state.w, sample)
        index = sample.unsqueeze(-1)
        rows = index.unsqueeze(-1).expand(*index.shape, g.shape[-1])
        old = state.table.gather(-2, rows).squeeze(-2)
        weight, entered = state.weights.gather(-1, index), state.table_weights.gather(-1, index)
        change = weight * g - entered * old
        n = self.sigma.shape[-1]
        w = (state.w - self.lr * (n * change + state.mean)) / (1 + self.lr * self.weight_decay)
        losses = state.losses.scatter(-1, index, loss.unsqueeze(-1))
        return ProspectState(
            w,
            losses,
            self._weights(losses),
            state.table.scatter(-2, rows, g.unsqueeze(-2)),
            state.table_weights.scatter(-1, index, weight),
            state.mean + change,
        )

    def _weights(self, losses: Tensor) -> Tensor:
        return spectral_weights(losses, self.sigma, self.shift_cost, self.geometry)
