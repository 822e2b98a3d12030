"""From a plan that nearly keeps its marginals to one that does."""

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.transport.problem import along, check_marginals, marginals_of, require_float

__all__ = ["check_plan", "round_to_polytope"]


def check_plan(plan: Tensor, marginals: tuple[Tensor, ...]) -> None:
    """Raise unless ``plan`` is a tensor with one axis per marginal, and the marginals are good."""
    require_float(plan, "plan", "(*batch, n_1, ..., n_k)")
    if len(marginals) < 2 or plan.ndim < len(marginals):
        raise ShapeError(f"plan must have one axis per marginal, at least two; got {tuple(plan.shape)}")
    check_marginals(marginals, plan.shape[-len(marginals) :])


def round_to_polytope(plan: Tensor, *marginals: Tensor) -> Tensor:
    """A plan with the given marginals, at most twice as far from ``plan`` in the 1-norm as these are from its own.

    Every axis in turn is scaled down to ``min(1, wanted / sum)``; what is then missing, ``e_i >= 0`` on axis ``i``, is
    filled with the independent plan ``e_1 e_2^T / |e_1|_1`` (``k`` axes: the product over ``|e_1|_1^(k - 1)``).
    Differentiable wherever no ``sum`` equals the wanted one.

    Args:
        plan: Non-negative ``(*batch, n_1, ..., n_k)``.
        marginals: ``(*batch, n_i)``, positive, of one mass.

    Returns:
        The rounded plan, in the shape of ``plan``; its marginals hold to rounding.

    Raises:
        DomainError: If a marginal is bad.
        ShapeError: If shapes do not fit.

    Source: Altschuler, Weed, Rigollet, "Near-linear time approximation algorithms for optimal transport via Sinkhorn
    iteration", 2017.
    """
    check_plan(plan, marginals)
    axes = len(marginals)
    for k, wanted in enumerate(marginals):
        plan = plan * along(wanted / torch.maximum(marginals_of(plan, axes)[k], wanted), k, axes)
    missing = [(w - s).clamp_min(0) for w, s in zip(marginals, marginals_of(plan, axes), strict=True)]
    total = missing[0].sum(-1, keepdim=True)
    # Where nothing is missing the product is zero whatever it is divided by.
    total = torch.where(total > 0, total, torch.ones_like(total))
    fill = along(missing[0], 0, axes)
    for k, e in enumerate(missing[1:], 1):
        fill = fill * along(e / total, k, axes)
    return plan + fill
