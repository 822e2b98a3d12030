"""Mirror maps of the simplex given by an increasing function, with parameters that can be learned."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import eager_values, monotone_root, upcast
from mirrorgen.special import tsallis_log

__all__ = ["MixedPotential"]


@dataclass(frozen=True, eq=False)
class MixedPotential:
    """The potential ``h(pi) = sum_a int phi^-1``, ``phi(x) = sum_j w_j exp_(q_j)(b_j x)``, ``sum_j w_j = 1``.

    ``exp_q(x) = (1 + (q - 1) x)_+^(1 / (q - 1))`` inverts the slope of the Tsallis potential of index ``q``. One order
    alone is that potential divided by its scale: 1 gives softmax policies, 2 projections. Mixtures behave like several
    at once: exponential tails below a linear top, and so on. If all orders exceed one, policies can be sparse.

    Axes of the parameters before the last are leading axes of the policies, so that a population of potentials runs
    side by side.

    Args:
        weights: ``w (*population, orders)``, not negative, of sum one.
        scales: ``b (*population, orders)``, positive.
        orders: ``q_j``.

    Raises:
        ShapeError: If weights, scales and orders do not fit.
        DomainError: If a weight or scale is out of range.

    Source: Alfano, Towers, Sapora, Lu, Rebeschini, "Learning mirror maps in policy mirror descent", 2025, with networks
    for ``phi^-1``; Krichene, Krichene, Bayen, "Efficient Bregman projections onto the simplex", 2015.
    """

    weights: Tensor
    scales: Tensor
    orders: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0)

    def __post_init__(self) -> None:
        if self.weights.shape != self.scales.shape or self.weights.shape[-1:] != (len(self.orders),):
            raise ShapeError(
                f"weights and scales must be (*population, {len(self.orders)}), got {tuple(self.weights.shape)} and "
                f"{tuple(self.scales.shape)}"
            )
        if eager_values(self.weights, self.scales):
            total = (self.weights.sum(-1) - 1).abs().amax()
            if not bool((self.weights >= 0).all() & (total < 1e-6) & (self.scales > 0).all()):
                raise DomainError("weights must be not negative with sum one, and scales positive")

    @classmethod
    def from_parameters(cls, parameters: Tensor, orders: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0)) -> "MixedPotential":
        """Weights by softmax of the first half, scales by exp of the second; ``(*population, 2 orders)``."""
        if parameters.shape[-1] != 2 * len(orders):
            raise ShapeError(f"parameters must be (*population, {2 * len(orders)}), got {tuple(parameters.shape)}")
        logits, logs = parameters.chunk(2, -1)
        return cls(logits.softmax(-1), logs.exp(), orders)

    def log_mass(self, x: Tensor) -> Tensor:
        """``log phi(x)`` elementwise, ``-inf`` where a policy has no mass; increasing, 0 at 0, for ``x <= 0``."""
        x = upcast(x)
        return self._terms(x).evaluate(x)[0]

    def dual(self, log_p: Tensor) -> Tensor:
        """``phi^-1``, the potential's slope at ``log_p <= 0``; without mass its limit, ``-inf`` if an order is <= 1."""
        log_p = upcast(log_p)
        live = log_p > -torch.inf
        logs = torch.where(live, log_p, 0.0)
        terms = self._terms(logs)
        lower, upper = terms.bracket(logs, self.orders)

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = terms.evaluate(x)
            return value - logs, slope

        return torch.where(live, monotone_root(excess, lower, upper, start=upper), terms.limit())

    def step(self, log_prior: Tensor, gradient: Tensor, step_size: float | Tensor = 1.0) -> Tensor:
        """``argmax_pi eta <pi, g> - D_h(pi, prior)`` as log-probabilities: ``phi(phi^-1(prior) + eta g + c)``.

        Args:
            log_prior: ``log pi_k``, ``(*population, *batch, actions)``, normalised.
            gradient: ``g``, broadcast against it.
            step_size: ``eta``, one number or ``(*population, *batch)``.

        Returns:
            Normalised log-probabilities in the dtype of ``log_prior``; ``-inf`` for actions without mass.

        Raises:
            DomainError: If the gradient is NaN or infinite.
        """
        if eager_values(gradient) and not bool(torch.isfinite(gradient).all()):
            raise DomainError("the gradient has entries that are NaN or infinite")
        start = self.dual(log_prior)
        eta = torch.as_tensor(step_size, dtype=start.dtype, device=start.device)
        y = start + (eta.unsqueeze(-1) if eta.ndim else eta) * upcast(gradient)
        return self._normalised(y - y.amax(-1, keepdim=True).detach()).to(log_prior.dtype)

    def _normalised(self, y: Tensor) -> Tensor:
        """``log phi(y + c)`` with ``c`` such that the masses sum to one; the largest ``y`` is 0."""
        count = torch.tensor(float(y.shape[-1]), dtype=y.dtype, device=y.device)
        terms = self._terms(y)
        # The largest probability is between 1 / actions and 1, and phi(0) = 1.
        lower, _ = terms.bracket(-count.log().expand_as(y[..., :1]), self.orders)

        def excess(c: Tensor) -> tuple[Tensor, Tensor]:
            logs, slope = terms.evaluate(y + c)
            mass = torch.where(logs > -torch.inf, logs.exp(), 0.0)
            return mass.sum(-1, keepdim=True) - 1, (mass * slope).sum(-1, keepdim=True)

        logs, _ = terms.evaluate(y + monotone_root(excess, lower, torch.zeros_like(lower)))
        return torch.log_softmax(logs, -1)

    def _terms(self, x: Tensor) -> "_Terms":
        """All terms with their axis first, broadcasting against ``x``."""
        ones = [1] * (x.ndim - self.weights.ndim + 1)
        scales, weights = (upcast(t).movedim(-1, 0) for t in (self.scales, self.weights))
        gaps = torch.tensor([q - 1 for q in self.orders], dtype=x.dtype, device=x.device)
        return _Terms(
            gaps.reshape(-1, *[1] * x.ndim),
            scales.reshape(*scales.shape, *ones),
            weights.reshape(*weights.shape, *ones),
        )


class _Terms(NamedTuple):
    """``q - 1``, ``b`` and ``w`` of all orders ``(orders, *population, ...)``."""

    gaps: Tensor
    scales: Tensor
    weights: Tensor

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``log phi(x)`` and its derivative, ``-inf`` and 0 where there is no mass."""
        gaps, used, line = self.gaps, self.weights > 0, self.scales * x
        inner = 1 + torch.where(gaps == 0, 0.0, gaps * line)
        live = (inner > 0) & used & (x > -torch.inf)
        # Harmless numbers where there is no mass: powers of zero have NaN derivatives.
        safe = torch.where(live, inner, 1.0)
        power = torch.where(gaps == 0, torch.where(live, line, 0.0), safe.log() / torch.where(gaps == 0, 1.0, gaps))
        logs = torch.where(live, power + torch.where(used, self.weights, 1.0).log(), -torch.inf)
        peak = logs.detach().amax(0)
        peak = torch.where(peak > -torch.inf, peak, 0.0)
        mass = torch.where(live, (logs - peak).exp(), 0.0)
        total = mass.sum(0)
        some = total > 0
        total = torch.where(some, total, 1.0)
        return torch.where(some, total.log() + peak, -torch.inf), (mass * self.scales / safe).sum(0) / total

    def bracket(self, log_p: Tensor, orders: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Two numbers around ``phi^-1``: the least and the largest of the inverses of the orders in use."""
        ends, used = torch.stack([tsallis_log(log_p, q) for q in orders]) / self.scales, self.weights > 0
        return torch.where(used, ends, torch.inf).amin(0), torch.where(used, ends, -torch.inf).amax(0)

    def limit(self) -> Tensor:
        """``phi^-1(0)``: where the last of the orders ends."""
        ends = torch.where(self.gaps > 0, -1 / (torch.where(self.gaps > 0, self.gaps, 1.0) * self.scales), -torch.inf)
        return torch.where(self.weights > 0, ends, torch.inf).amin(0)
