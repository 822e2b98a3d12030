"""AMSGrad with a guess of the next gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrorgen.errors import DomainError
from mirrorgen.optim.dual_state import Closure, DualOptimizer

__all__ = ["OptimisticAMSGrad"]


class OptimisticAMSGrad(Optimizer):
    """Optimistic mirror descent whose metric is AMSGrad's: regret grows with ``|g_t - m_t|``, not with ``|g_t|``.

    ``th_t = b1 th_(t-1) + (1 - b1) g_t``, ``v_t = b2 v_(t-1) + (1 - b2) g_t^2``, ``s_t = max(s_(t-1), v_t)``; then
    ``u_(t+1) = u_t - lr th_t / sqrt(s_t)`` and the point that is played,
    ``w_(t+1) = u_(t+1) - lr h_(t+1) / sqrt(s_t)`` with ``h_(t+1) = b1 th_(t-1) + (1 - b1) m_(t+1)``. The guess
    ``m_(t+1)`` is the last gradient ``g_t``. There is no correction of the first steps' bias, and ``eps`` is added to
    the root.

    Args:
        params: Parameters, or groups of them; they hold ``w``, and ``state[p]["anchor"]`` is ``u``.
        lr: Step size.
        betas: ``b1, b2``.
        eps: Smallest denominator.
        maximize: Ascend: with a group for each player, smooth games converge.

    Raises:
        DomainError: If a setting is out of range.

    Source: Wang, Li, Karimi, Li, "An Optimistic Acceleration of AMSGrad for Nonconvex Optimization", 2021.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        maximize: bool = False,
    ) -> None:
        if not (lr > 0 and eps > 0 and all(0 <= b < 1 for b in betas)):
            raise DomainError(f"lr and eps must be positive and betas in [0, 1), got {lr}, {eps}, {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """One step; the closure, if any, computes loss and gradients first."""
        loss = DualOptimizer._evaluate(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._advance(group, p, -p.grad if group["maximize"] else p.grad)
        return loss

    def _advance(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        (b1, b2), state = group["betas"], self.state[p]
        if not state:
            state["anchor"] = p.detach().clone()
            state.update({name: torch.zeros_like(p) for name in ("mean", "square", "largest")})
        before, state["mean"] = state["mean"], torch.lerp(gradient, state["mean"], b1)
        state["square"] = torch.lerp(gradient.square(), state["square"], b2)
        state["largest"] = torch.maximum(state["largest"], state["square"])
        scale = group["lr"] / (state["largest"].sqrt() + group["eps"])
        state["anchor"] = state["anchor"] - scale * state["mean"]
        p.copy_(state["anchor"] - scale * torch.lerp(gradient, before, b1))
