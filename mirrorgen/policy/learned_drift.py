"""A drift that is a network: axioms hold for all of its weights, so that they can be searched freely."""

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.policy.drifts import ClipDrift, Drift
from mirrorgen.policy.evolution import call_population

__all__ = ["LearnedDrift"]

# Beyond it ratios overflow in single precision; drifts are flat or saturated long before.
LARGEST_LOG_RATIO = 20.0
CLIP = ClipDrift()


class LearnedDrift(nn.Module):
    """``relu(net(x, A x) - margin) + start(log r, A)`` with ``x = [log r, log^2 r, 1 - r, (1 - r)^2]``.

    The network has one tanh layer and no biases, so that its value at ratio one, where ``x = 0``, is zero: below the
    margin, which makes the drift zero and flat there for all weights (within a distance of about the margin over the
    size of the weights). The last layer starts at zero, and the drift at ``start``.

    Args:
        hidden: Width of the layer.
        start: A drift to add; None for none.
        margin: Positive. Where the network is below it, it does not count, and has no gradient.

    Raises:
        DomainError: If ``margin`` is not positive.

    Source: Lu, Kuba, Letcher, Metz, Schroeder de Witt, Foerster, "Discovered Policy Optimisation", 2022.
    """

    def __init__(self, hidden: int = 128, start: Drift | None = CLIP, margin: float = 1e-4) -> None:
        super().__init__()
        if not margin > 0:
            raise DomainError(f"margin must be positive: it makes the drift flat at ratio one, got {margin}")
        self.start, self.margin = start, margin
        self.inner, self.outer = nn.Linear(8, hidden, bias=False), nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.outer.weight)

    def forward(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """Drifts of the shape of the arguments."""
        log_ratio, advantage = torch.broadcast_tensors(log_ratio, advantage)
        near = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
        gap = -torch.expm1(near)
        x = torch.stack([near, near.square(), gap, gap.square()], -1).to(self.inner.weight)
        found = self.outer(torch.tanh(self.inner(torch.cat([x, advantage.unsqueeze(-1).to(x) * x], -1)))).squeeze(-1)
        learned = torch.relu(found - self.margin).to(log_ratio.dtype)
        return learned if self.start is None else learned + self.start(log_ratio, advantage)

    def vector(self) -> Tensor:
        """All weights as one vector, where a search starts."""
        return torch.nn.utils.parameters_to_vector(self.parameters()).detach()

    def with_vector(self, vector: Tensor) -> "LearnedDrift":
        """This drift after its weights became ``vector``."""
        torch.nn.utils.vector_to_parameters(vector, self.parameters())
        return self

    def population(self, vectors: Tensor) -> Drift:
        """One drift per row of ``vectors``, for arguments ``(population, ...)``."""
        return lambda log_ratio, advantage: call_population(self, vectors, log_ratio, advantage)
