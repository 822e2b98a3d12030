"""Barrier maps over slacks at a batch of dual points, for samplers: one solve and one small factor serve all."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.local import LocalGeometry, usable_dual
from mirrorgen.geometry.mirror_maps.slack_forms import SlackForm
from mirrorgen.geometry.mirror_maps.slack_newton import step_length
from mirrorgen.numerics import upcast

if TYPE_CHECKING:
    from mirrorgen.geometry.mirror_maps.base import MirrorMap
    from mirrorgen.geometry.mirror_maps.slack_structures import HalfspaceStructure

__all__ = ["SlackLocalGeometry", "solve_near"]

TOLERANCE = 1e-11
MAX_ROUNDS = 40
# Largest change of a log-slack that is taken as it is and followed by a chord step.
FULL_STEP = 1.0


def solve_near(form: SlackForm, y: Tensor, z: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Newton's method at ``y (n, d)`` from the solution at dual points nearby.

    Near the solution every factor serves a Newton step and a chord step, together of third order. Steps are shortened
    as in ``SlackSystem``.

    Args:
        form: The equations.
        y: Dual points.
        z: Chart coordinates ``(n, d)`` of the start.
        sigma: Its log-slacks ``(n, m)``.

    Returns:
        Chart coordinates, log-slacks, and which rows ``(n,)`` have a relative residual of at most 1e-11.
    """
    u, sigma, converged = _newton(form, form.target(y), form.unknown(z, sigma), sigma, MAX_ROUNDS)
    return form.point(u, sigma), sigma, converged


def _newton(form: SlackForm, target: Tensor, u: Tensor, sigma: Tensor, rounds: int) -> tuple[Tensor, Tensor, Tensor]:
    for taken in range(rounds):
        defects = form.defects(u, sigma, target)
        converged = defects.error <= TOLERANCE
        left = len(u) - int(converged.sum())
        if left == 0:
            return u, sigma, converged
        if 2 * left <= len(u):
            index = (~converged).nonzero().squeeze(-1)
            parts = _newton(form, target[index], u[index], sigma[index], rounds - taken)
            whole = [old.index_copy(0, index, new) for old, new in zip((u, sigma, converged), parts, strict=True)]
            return whole[0], whole[1], whole[2]
        factor = form.factor(sigma)
        du, dsigma = form.correction(defects, sigma, factor)
        if bool(dsigma.abs().max() <= FULL_STEP):
            u, sigma = u + du, sigma + dsigma
            du, dsigma = form.correction(form.defects(u, sigma, target), sigma, factor)
            u, sigma = u + du, sigma + dsigma
        else:
            step = step_length(form.power, sigma, dsigma)
            u, sigma = torch.addcmul(u, step, du), torch.addcmul(sigma, step, dsigma)
    return u, sigma, form.defects(u, sigma, target).error <= TOLERANCE


class SlackLocalGeometry(LocalGeometry):
    """Point, Hessian, log-determinant and score of a barrier over half-spaces; without derivatives.

    ``start`` holds chart coordinates and log-slacks. Where the small factor keeps too few digits, the factor that
    stands any spread of stiffnesses takes its place.

    Args:
        mirror_map: The map.
        structure: What it is on the set.
        y: Dual points ``(..., dual_dim)``.
        start: Where the solve starts.
    """

    def __init__(
        self, mirror_map: "MirrorMap", structure: "HalfspaceStructure", y: Tensor, start: Tensor | None
    ) -> None:
        usable = usable_dual(y)
        y = torch.where(usable, y, 0.0)
        self._structure, self._form = structure, structure.form()
        dual = upcast(y).reshape(-1, y.shape[-1])
        with torch.no_grad():
            point, solution = structure.local(dual, None if start is None else start.reshape(len(dual), -1))
            self._sigma = solution[:, y.shape[-1] :]
            point = mirror_map.domain.pull_inside(point.to(y.dtype).reshape(*y.shape[:-1], -1))[0]
        x = torch.where(usable, point, torch.nan)
        super().__init__(mirror_map, y, x, solution.reshape(*y.shape[:-1], -1))

    @cached_property
    def _factor(self) -> Tensor:
        return self._form.factor(self._sigma)

    @cached_property
    def _poor(self) -> Tensor:
        """Indices of the rows to leave to the other factor."""
        return self._form.poor(self._factor).nonzero().squeeze(-1)

    @cached_property
    def hessian(self) -> HessianOperator:
        return self.mirror_map.hessian_again(self.y, self.start)

    @cached_property
    def log_det(self) -> Tensor:
        value = self._form.logdet(self._sigma, self._factor)
        if len(self._poor):
            robust = self._structure.operator(self._sigma[self._poor]).logdet()
            value = value.index_copy(0, self._poor, robust)
        value = value + self.mirror_map.log_coordinate_volume
        return value.reshape(self.y.shape[:-1]).to(self.y.dtype)

    @property
    def log_det_gradient(self) -> Tensor:
        return -self._score(torch.zeros_like(self.y))

    def mirrored_score(self, score: Tensor) -> Tensor:
        return self._score(self.mirror_map.pull_back(score))

    def _score(self, g: Tensor) -> Tensor:
        wide = upcast(g).reshape(-1, g.shape[-1])
        factor = self._factor
        if len(self._poor):
            # A zero pivot would stop the whole batch.
            factor = factor.index_copy(
                0, self._poor, torch.eye(factor.shape[-1]).to(factor).expand(len(self._poor), -1, -1)
            )
        value = self._form.score(wide, self._sigma, torch.cholesky_inverse(factor))
        if len(self._poor):
            robust = self._structure.robust_score(wide[self._poor], self._sigma[self._poor])
            value = value.index_copy(0, self._poor, robust)
        return value.reshape(g.shape).to(g.dtype)
