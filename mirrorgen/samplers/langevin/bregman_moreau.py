"""Mirror Langevin for composite targets, smoothed by a Bregman-Moreau envelope."""

from dataclasses import KW_ONLY, dataclass

from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.bregman import ProximalFunction, envelope_gradient
from mirrorgen.geometry.bregman_prox import check_problem
from mirrorgen.geometry.hessian import HessianOperator
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.geometry.mirror_maps.local import LocalGeometry
from mirrorgen.geometry.prox_closed_forms import Side
from mirrorgen.samplers.langevin.mirror_langevin import MirrorLangevin, MirrorPoint
from mirrorgen.samplers.langevin.myula import composite_value
from mirrorgen.samplers.langevin.proposal import factored, value_and_gradient

__all__ = ["BregmanMoreauLangevin"]


@dataclass(frozen=True, eq=False)
class BregmanMoreauLangevin(MirrorLangevin):
    """``MirrorLangevin`` for ``exp(-f - g)`` whose steps follow ``-grad f - grad env``, ``env`` the envelope of ``g``.

    ``y' = y - h (grad f(x) + grad env(x)) + sqrt(2h) H(x)^(1/2) xi`` with ``H`` the Hessian of ``phi``, where
    ``env(x) = min_u g(u) + D_psi(u, x) / lambda`` on the left and ``D_psi(x, u)`` on the right. The maps ``phi`` of
    the dynamics and ``psi`` of the envelope may differ.

    By default Metropolis' test uses the *exact* density ``exp(-f - g)``: neither smoothing nor step size biases the
    law, and the envelope shapes nothing but the proposal. ``adjusted=False`` is LBMUMLA and RBMUMLA, with the biases
    of both. ``MYULA`` is the case of two ``Quadratic``.

    ``MirrorLangevin(target, ...)`` of a target whose score holds a subgradient of ``g`` is the same without an
    envelope, and the baseline to beat. For small ``lambda`` they coincide away from the kinks of ``g``.

    One step costs one gradient of ``f``, one envelope gradient and what ``MirrorLangevin`` costs.

    Args:
        log_density: The smooth part ``-f``, points ``(chains, dim)`` to values ``(chains,)``.
        mirror_map: ``phi``.
        step_size: ``h``, positive.
        adjusted: Whether Metropolis' test removes the bias.
        nonsmooth: ``g``.
        smoothing: ``lambda``, positive.
        envelope_map: ``psi``, on a domain that holds that of ``phi``; ``phi`` if None.
        side: Which argument of the divergence moves.

    Raises:
        DomainError: For options that do not go together, see ``MirrorLangevin``; if the maps have different
            coordinates; if the envelope has no closed form.

    Source: Lau, Liu, "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022; the test: Srinivasan,
    Wibisono, Wilson, "Fast sampling from constrained spaces using the Metropolis-adjusted mirror Langevin algorithm",
    2024.
    """

    _: KW_ONLY
    nonsmooth: ProximalFunction
    smoothing: float = 0.01
    envelope_map: MirrorMap | None = None
    side: Side = "left"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_problem(self.smoothing, self.side)
        own, other = self.domain, (self.envelope_map or self.mirror_map).domain
        if own.dim != other.dim or (self.envelope_map is not None and own.dual_dim != own.dim):
            raise DomainError(
                f"the envelope map must live in the coordinates of the mirror map, got {other!r} and {own!r}; leave "
                "envelope_map out to use one map for both"
            )
        # Whether the pair has a closed form shows before the chain starts.
        centre = self.mirror_map.local(self.mirror_map.to_dual(own.interior_point().unsqueeze(0)))
        self._envelope_gradient(centre)

    def _envelope_gradient(self, local: LocalGeometry) -> Tensor:
        psi = self.envelope_map
        y = local.y if psi is None else psi.to_dual(local.x)
        return envelope_gradient(psi or self.mirror_map, self.nonsmooth, y, self.smoothing, self.side)

    def _at(self, y: Tensor, start: Tensor | None) -> tuple[MirrorPoint, HessianOperator]:
        local = self.mirror_map.local(y, start)
        smooth, gradient = value_and_gradient(self.log_density, self.mirror_map, local.x, self.drift)
        value = smooth - self.nonsmooth(local.x) if self.adjusted else composite_value(smooth, self.nonsmooth, local.x)
        if self.drift:
            gradient = gradient - self._envelope_gradient(local)
        hessian, factor = factored(local.hessian, y.dtype)
        return MirrorPoint(y, local.x, value, gradient, hessian.logdet(), factor, local.start), hessian
