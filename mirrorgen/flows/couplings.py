"""Pairings of noise and data within a batch."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.transport import sinkhorn

__all__ = ["Coupling", "Independent", "OptimalTransport"]


class Coupling(nn.Module, ABC):
    """A rule that reorders noise against data; the data and their conditions keep their order."""

    @abstractmethod
    def forward(
        self,
        x_0: Tensor,
        x_1: Tensor,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The noise ``(n, dim)`` in the order that pairs ``x_0[i]`` with ``x_1[i]``."""


class Independent(Coupling):
    """Noise and data are paired as they come."""

    def forward(
        self,
        x_0: Tensor,
        x_1: Tensor,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return x_0


class OptimalTransport(Coupling):
    """Minibatch optimal transport for the squared distance.

    ``method="exact"`` solves the assignment problem, whose solution is a true permutation: no noise vector is
    used twice. ``method="sinkhorn"`` draws, for every data point, one noise vector from the entropic plan.
    With class labels the pairing is solved within each class: a pairing that ignores labels would tie the
    noise to the class, and conditional sampling, which draws noise independently of the class, would be biased.
    With real-valued conditions noise ``i`` is given condition ``i``, and ``condition_weight |c_i - c_j|^2`` is added to
    the cost of pairing it with data ``j``: the larger the weight, the less a pairing ties noise to conditions, and the
    less it straightens paths.

    Source: Tong et al., "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
    Transport" (2024); Pooladian et al., "Multisample Flow Matching" (2023); the augmented cost: Kerrigan, Migliorini,
    Smyth, "Dynamic Conditional Optimal Transport through Simulation-Free Flows" (2024).

    Args:
        method: ``"exact"`` or ``"sinkhorn"``.
        regularization: Entropic regularisation relative to the mean cost, for ``"sinkhorn"``.
        condition_weight: Price of changing a real-valued condition, per squared unit of it; needed for such conditions.
    """

    def __init__(
        self, method: str = "exact", regularization: float = 0.05, condition_weight: float | None = None
    ) -> None:
        super().__init__()
        if method not in ("exact", "sinkhorn"):
            raise DomainError(f"unknown transport method {method!r}; choose 'exact' or 'sinkhorn'")
        if not regularization > 0:
            raise DomainError(f"regularization must be positive, got {regularization}")
        if condition_weight is not None and not condition_weight > 0:
            raise DomainError(f"condition_weight must be positive, got {condition_weight}")
        self.method, self.regularization, self.condition_weight = method, regularization, condition_weight

    def forward(
        self,
        x_0: Tensor,
        x_1: Tensor,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if x_0.shape != x_1.shape:
            raise ShapeError(f"noise {tuple(x_0.shape)} and data {tuple(x_1.shape)} must have one shape")
        if condition is None:
            return x_0[self._pairing(_cost(x_0, x_1), generator)]
        if condition.is_floating_point():
            if self.condition_weight is None:
                raise DomainError(
                    "OptimalTransport of real-valued conditions needs condition_weight, the price of changing them; "
                    "or use Independent"
                )
            rows = condition.reshape(len(condition), -1)
            price = self.condition_weight * _cost(rows, rows).to(x_0.dtype)
            return x_0[self._pairing(_cost(x_0, x_1) + price, generator)]
        order = torch.arange(len(x_0), device=x_0.device)
        for label in condition.unique():
            rows = (condition == label).nonzero().flatten()
            order = order.index_copy(0, rows, rows[self._pairing(_cost(x_0[rows], x_1[rows]), generator)])
        return x_0[order]

    @torch.no_grad()
    def _pairing(self, cost: Tensor, generator: torch.Generator | None) -> Tensor:
        """Index of the noise for each data point, from the cost ``(data, noise)``."""
        if self.method == "exact":
            from scipy.optimize import linear_sum_assignment

            return torch.as_tensor(linear_sum_assignment(cost.double().cpu().numpy())[1], device=cost.device)
        scaled = cost.double() / cost.double().mean().clamp_min(torch.finfo(torch.float64).tiny)
        # A rough plan pairs as well as an exact one: what is not done after so many iterations is kept.
        solved = sinkhorn(
            scaled,
            epsilon=self.regularization,
            tolerance=1e-6,
            max_iterations=200,
            on_failure="keep",
        )
        return torch.multinomial(solved.plan.clamp_min(1e-300), 1, generator=generator).squeeze(-1)


def _cost(x_0: Tensor, x_1: Tensor) -> Tensor:
    return torch.cdist(x_1, x_0).square()
