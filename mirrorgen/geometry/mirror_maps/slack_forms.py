"""The equations of a barrier over slacks, in coordinates or in equalities, whichever are fewer."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.geometry.mirror_maps.slack_power import SlackPower

__all__ = ["Defects", "EqualityForm", "RowForm", "SlackForm", "slack_form"]

PAIR_ENTRIES = 2**22
# Pivots of the factor, relative to the largest: log-determinants keep seven digits.
SMALLEST_PIVOT = 1e-4


class Defects(NamedTuple):
    """What is missing of both equations, the largest of it relative to their sizes ``(n,)``, and the slacks."""

    force: Tensor
    slack: Tensor
    error: Tensor
    s: Tensor


class SlackForm(ABC):
    """``H = quadratic I + A^T W A`` and Newton's step for the log-slacks, by one factor of a small matrix ``M``.

    Everything is detached and for matrices of points ``(n, .)``. ``M = B^T diag(weights) B`` of a constant
    ``B (m, r)`` is a product of the weights with the constant ``(m, r^2)`` of all pairs of columns of ``B``: one
    matrix product for the whole batch, ``m r^2`` per point; its Cholesky factor takes ``r^3 / 3``.

    Args:
        rows: ``A (m, d)``.
        slack: ``s_0 (m,)``, the slacks at ``center``.
        center: The interior point that unknowns are counted from, ``(d,)``.
        power: The barrier term.
        quadratic: The factor of the quadratic term.
        basis: ``B``.
    """

    def __init__(
        self, rows: Tensor, slack: Tensor, center: Tensor, power: SlackPower, quadratic: float, basis: Tensor
    ) -> None:
        self.rows, self.slack, self.center, self.power, self.quadratic = rows, slack, center, power, quadratic
        self.basis, self.largest = basis, float(slack.max())
        pairs = basis.unsqueeze(2) * basis.unsqueeze(1) if basis.numel() * basis.shape[1] <= PAIR_ENTRIES else None
        self._pairs = None if pairs is None else pairs.flatten(1)
        self._slopes = None if pairs is None else pairs.flatten(1).mT.contiguous()

    @abstractmethod
    def target(self, y: Tensor) -> Tensor:
        """The right-hand side of the equation of forces for dual points ``(..., d)``."""

    @abstractmethod
    def unknown(self, z: Tensor, sigma: Tensor) -> Tensor:
        """The unknown beside the log-slacks at a point known in the chart."""

    @abstractmethod
    def point(self, u: Tensor, sigma: Tensor) -> Tensor:
        """The chart coordinates of a solution."""

    @abstractmethod
    def defects(self, u: Tensor, sigma: Tensor, target: Tensor) -> Defects:
        """How far from a solution ``(u, sigma)`` is."""

    @abstractmethod
    def correction(self, defects: Defects, sigma: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step in ``(u, sigma)``; with the factor of another point, the chord's."""

    @abstractmethod
    def matrix(self, sigma: Tensor) -> Tensor:
        """``M (..., r, r)``."""

    @abstractmethod
    def logdet(self, sigma: Tensor, factor: Tensor) -> Tensor:
        """``log det H``."""

    @abstractmethod
    def score(self, g: Tensor, sigma: Tensor, inverse: Tensor) -> Tensor:
        """``H^-1 (g - grad_z log det H)`` for ``g (..., d)``.

        ``grad_z log det H = (1 + kappa) sum_i l_i / s_i a_i`` with the leverages ``l_i = W_i a_i^T H^-1 a_i``.
        """

    def factor(self, sigma: Tensor) -> Tensor:
        """The Cholesky factor of ``M``; garbage where it fails, which ``poor`` tells."""
        return torch.linalg.cholesky_ex(self.matrix(sigma))[0]

    @staticmethod
    def poor(factor: Tensor) -> Tensor:
        """Whether too few digits are left, ``(...)``."""
        pivots = torch.diagonal(factor, dim1=-2, dim2=-1)
        return ~(pivots.amin(-1) > SMALLEST_PIVOT * pivots.amax(-1))

    def _gram(self, weights: Tensor) -> Tensor:
        if self._pairs is None:
            return (self.basis.mT * weights.unsqueeze(-2)) @ self.basis
        return (weights @ self._pairs).unflatten(-1, (self.basis.shape[1],) * 2)

    def _squares(self, inverse: Tensor) -> Tensor:
        """``b_i^T M^-1 b_i (..., m)``."""
        if self._slopes is None:
            return ((self.basis @ inverse) * self.basis).sum(-1)
        return inverse.flatten(-2) @ self._slopes


class RowForm(SlackForm):
    """``quadratic z + A^T force(sigma) = y`` and ``s_0 - A z = e^sigma`` with ``M = H``, ``r = d``."""

    def __init__(self, rows: Tensor, slack: Tensor, center: Tensor, power: SlackPower, quadratic: float) -> None:
        super().__init__(rows, slack, center, power, quadratic, rows)
        self._ridge = quadratic * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)

    def target(self, y: Tensor) -> Tensor:
        return y - self.quadratic * self.center

    def unknown(self, z: Tensor, sigma: Tensor) -> Tensor:
        return z - self.center

    def point(self, u: Tensor, sigma: Tensor) -> Tensor:
        return self.center + u

    def defects(self, u: Tensor, sigma: Tensor, target: Tensor) -> Defects:
        force = target - self.quadratic * u - self.power.force(sigma) @ self.rows
        s = torch.exp(sigma)
        slack = self.slack - torch.addmm(s, u, self.rows.mT)
        room = self.largest + torch.linalg.vector_norm(u, dim=-1)
        error = torch.maximum(force.abs().amax(-1) / (1 + target.abs().amax(-1)), slack.abs().amax(-1) / room)
        return Defects(force, slack, error, s)

    def correction(self, defects: Defects, sigma: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.power.force_rate(sigma) / defects.s
        right = torch.addmm(defects.force, weights * defects.slack, self.rows)
        u = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
        return u, torch.addmm(defects.slack, u, self.rows.mT, alpha=-1) / defects.s

    def matrix(self, sigma: Tensor) -> Tensor:
        return self._gram(torch.exp(self.power.log_curvature(sigma))) + self._ridge

    def logdet(self, sigma: Tensor, factor: Tensor) -> Tensor:
        return _logdet(factor)

    def score(self, g: Tensor, sigma: Tensor, inverse: Tensor) -> Tensor:
        leverage = torch.exp(self.power.log_curvature(sigma)) * self._squares(inverse)
        slope = (1 + self.power.kappa) * (leverage * torch.exp(-sigma)) @ self.rows
        return (inverse @ (g - slope).unsqueeze(-1)).squeeze(-1)


class EqualityForm(SlackForm):
    """The same without a quadratic term, in the ``k = m - d`` equalities ``N^T s = N^T s_0`` of slacks, ``N^T A = 0``.

    Forces with ``A^T force = y`` are ``force(sigma) = c + N u`` with the one ``c`` in the range of ``A``; the slacks
    ``e^sigma`` must satisfy the equalities: Sinkhorn's problem, for any ``A``. ``M = N^T W^-1 N`` has ``r = k`` and,
    with ``A = Q R`` and ``N`` orthonormal,

        ``H^-1 = R^-1 Q^T (W^-1 - W^-1 N M^-1 N^T W^-1) Q R^-T``,  ``det H = det(R)^2 det(W) det(M)``,

    and leverages ``1 - W_i^-1 n_i^T M^-1 n_i``. Facets that come near lose weight here instead of getting stiff.
    """

    def __init__(self, rows: Tensor, slack: Tensor, center: Tensor, power: SlackPower) -> None:
        d = rows.shape[1]
        complete, triangle = torch.linalg.qr(rows, mode="complete")
        super().__init__(rows, slack, center, power, 0.0, complete[:, d:].contiguous())
        frame = complete[:, :d]
        self._lift = torch.linalg.solve_triangular(triangle[:d].mT, frame, upper=False, left=False).contiguous()
        self._log_volume = 2 * torch.diagonal(triangle[:d]).abs().log().sum()
        self._across = self.basis.mT.contiguous()
        self._total = slack @ self.basis

    def target(self, y: Tensor) -> Tensor:
        return y @ self._lift.mT

    def unknown(self, z: Tensor, sigma: Tensor) -> Tensor:
        return self.power.force(sigma) @ self.basis

    def point(self, u: Tensor, sigma: Tensor) -> Tensor:
        return self.center + (self.slack - torch.exp(sigma)) @ self._lift

    def defects(self, u: Tensor, sigma: Tensor, target: Tensor) -> Defects:
        force = torch.addmm(target, u, self._across) - self.power.force(sigma)
        s = torch.exp(sigma)
        slack = torch.addmm(self._total, s, self.basis, alpha=-1)
        error = torch.maximum(force.abs().amax(-1) / (1 + target.abs().amax(-1)), slack.abs().amax(-1) / self.largest)
        return Defects(force, slack, error, s)

    def correction(self, defects: Defects, sigma: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        softness = -1 / self.power.force_rate(sigma)
        right = torch.addmm(defects.slack, defects.s * softness * defects.force, self.basis, alpha=-1)
        u = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
        return -u, softness * torch.addmm(defects.force, u, self._across, alpha=-1)

    def matrix(self, sigma: Tensor) -> Tensor:
        return self._gram(torch.exp(-self.power.log_curvature(sigma)))

    def logdet(self, sigma: Tensor, factor: Tensor) -> Tensor:
        return self.power.log_curvature(sigma).sum(-1) + _logdet(factor) + self._log_volume

    def score(self, g: Tensor, sigma: Tensor, inverse: Tensor) -> Tensor:
        log_curvature = self.power.log_curvature(sigma)
        weights = torch.exp(-log_curvature)
        leverage = 1 - weights * self._squares(inverse)
        # The two exponentials are one: the slack may underflow.
        shrunk = (1 + self.power.kappa) * leverage * torch.exp(-log_curvature - sigma)
        moved = weights * (g @ self._lift.mT) - shrunk
        inner = (inverse @ (moved @ self.basis).unsqueeze(-1)).squeeze(-1)
        return (moved - weights * (inner @ self._across)) @ self._lift


def _logdet(factor: Tensor) -> Tensor:
    return 2 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)


def slack_form(rows: Tensor, slack: Tensor, center: Tensor, power: SlackPower, quadratic: float) -> SlackForm:
    """The form with the smaller matrix."""
    m, d = rows.shape
    if quadratic == 0 and m - d <= d:
        return EqualityForm(rows, slack, center, power)
    return RowForm(rows, slack, center, power, quadratic)
