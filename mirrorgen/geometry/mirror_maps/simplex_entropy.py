"""The entropic map of the probability simplex."""

from typing import Literal

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains.simplex import Simplex
from mirrorgen.geometry.hessian import HessianOperator, RankOneHessian, TangentDiagonalHessian
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.local import LocalGeometry
from mirrorgen.geometry.mirror_maps.requirements import require_domain
from mirrorgen.geometry.simplex_chart import from_helmert, to_helmert
from mirrorgen.numerics import xlogx
from mirrorgen.special import entropy_gap

__all__ = ["SimplexEntropy"]


class SimplexEntropy(MirrorMap):
    """Shannon entropy of a simplex: the softmax map, ``x = softmax(u(y))``.

    ``phi(x) = sum x log x`` and ``phi*(y) = logsumexp(u)`` with logits ``u = V y`` and
    ``grad phi = V^T log x`` in the isometric chart (``"ilr"``, Helmert's ``V``; no coordinate is privileged),
    or ``u = (y, 0)`` and ``grad phi = log x_i - log x_K`` in the additive chart (``"alr"``), whose primal
    coordinates are the first ``K-1``. Dual tails are exponential; ``D(p, q)`` is the Kullback-Leibler
    divergence of ``p`` from ``q``.

    Args:
        domain: A ``Simplex``.
        chart: ``"ilr"``, the isotropic default for generative models and samplers, or ``"alr"``.

    Raises:
        DomainError: If ``chart`` is neither or the domain is not a simplex.

    Reference: Egozcue et al., "Isometric logratio transformations for compositional data analysis", 2003
    (ilr); Aitchison, "The statistical analysis of compositional data", 1982 (alr).
    """

    domain: Simplex

    def __init__(self, domain: Simplex, chart: Literal["ilr", "alr"] = "ilr") -> None:
        require_domain(domain, Simplex, name="SimplexEntropy")
        super().__init__(domain)
        if chart not in ("ilr", "alr"):
            raise DomainError(f'chart must be "ilr" or "alr", got {chart!r}')
        self.chart = chart

    def extra_repr(self) -> str:
        return f"chart={self.chart!r}"

    def _logits(self, y: Tensor) -> Tensor:
        if self.chart == "ilr":
            return from_helmert(y)
        return torch.cat([y, torch.zeros_like(y[..., :1])], -1)

    def _from_logits(self, g: Tensor) -> Tensor:
        """The gradient in dual points of a function with gradient ``g (..., K)`` in the logits."""
        return to_helmert(g) if self.chart == "ilr" else g[..., :-1]

    def potential(self, x: Tensor) -> Tensor:
        return xlogx(x).sum(-1)

    def conjugate(self, y: Tensor) -> Tensor:
        # The chart's offset 1/K pairs with V y, whose entries sum to zero, so no linear term remains.
        return torch.logsumexp(self._logits(y), -1)

    def hessian(self, x: Tensor) -> HessianOperator:
        inverse = x.reciprocal()
        if self.chart == "ilr":
            return TangentDiagonalHessian(inverse)
        head = inverse[..., :-1]
        return RankOneHessian(head, torch.ones_like(head), inverse[..., -1])

    def log_det_jacobian(self, x: Tensor) -> Tensor:
        """``-sum log x`` (alr), less ``log(K) / 2`` (ilr)."""
        return -x.log().sum(-1) + self._log_det_offset

    def log_det_jacobian_dual(self, y: Tensor) -> Tensor:
        """``-sum log_softmax(u)``, exact where coordinates of ``x`` underflow."""
        return -torch.log_softmax(self._logits(y), -1).sum(-1) + self._log_det_offset

    def log_det_gradient_dual(self, y: Tensor) -> Tensor:
        """``K V^T softmax(u)`` (ilr), ``K softmax(u)_i - 1`` (alr)."""
        x = torch.softmax(self._logits(y), -1)
        return self._from_logits(x.shape[-1] * x - 1)

    def local(self, y: Tensor, start: Tensor | None = None) -> LocalGeometry:
        return _SimplexGeometry(self, y)

    @property
    def _log_det_offset(self) -> float:
        # log det of V^T diag(1/x) V is -sum log x - log K on the simplex.
        return -self.domain.chart_log_volume if self.chart == "ilr" else 0.0

    def divergence(self, p: Tensor, q: Tensor) -> Tensor:
        """Kullback-Leibler ``sum p log(p / q)`` in the form ``sum p g((q - p) / p)``, ``g(u) = u - log(1 + u)``.

        The added ``sum (q - p)`` vanishes on the simplex; every term is non-negative.
        """
        return entropy_gap(p, q).sum(-1)

    @property
    def log_coordinate_volume(self) -> float:
        return self.domain.chart_log_volume if self.chart == "ilr" else 0.0

    def coordinates(self, x: Tensor) -> Tensor:
        return self.domain.to_chart(x) if self.chart == "ilr" else x[..., :-1]

    def from_coordinates(self, z: Tensor) -> Tensor:
        if self.chart == "ilr":
            return self.domain.from_chart(z)
        return torch.cat([z, 1 - z.sum(-1, keepdim=True)], -1)

    def pull_back(self, g: Tensor) -> Tensor:
        return to_helmert(g) if self.chart == "ilr" else g[..., :-1] - g[..., -1:]

    def _gradient(self, x: Tensor) -> Tensor:
        logs = x.log()
        return to_helmert(logs) if self.chart == "ilr" else logs[..., :-1] - logs[..., -1:]

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.softmax(self._logits(y), -1)


class _SimplexGeometry(LocalGeometry):
    """Softmax and its derivatives from one evaluation of the logits."""

    mirror_map: SimplexEntropy

    def __init__(self, mirror_map: SimplexEntropy, y: Tensor) -> None:
        self.logits = mirror_map._logits(y)
        # A softmax sums to one up to rounding; coordinates that underflow are all that can leave the simplex.
        x = torch.softmax(self.logits, -1).clamp_min(torch.finfo(y.dtype).tiny)
        super().__init__(mirror_map, y, x)

    @property
    def log_det(self) -> Tensor:
        return -torch.log_softmax(self.logits, -1).sum(-1) + self.mirror_map._log_det_offset

    @property
    def log_det_gradient(self) -> Tensor:
        return self.mirror_map._from_logits(self.x.shape[-1] * self.x - 1)

    def dual_gradient(self, g: Tensor) -> Tensor:
        return self.mirror_map._from_logits(self.x * (g - (self.x * g).sum(-1, keepdim=True)))

    def mirrored_score(self, score: Tensor) -> Tensor:
        total = (self.x * score).sum(-1, keepdim=True) + self.x.shape[-1]
        return self.mirror_map._from_logits(self.x * (score - total) + 1)
