"""Solvers that branch on values, outside autograd and underneath ``torch.func`` transforms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mirrorgen.numerics import eager_values

__all__ = ["derivatives_wanted", "detached_solve"]


class _DetachedSolve(torch.autograd.Function):
    """Run a solver that branches on values, outside autograd and underneath ``torch.func`` transforms."""

    @staticmethod
    def forward(solver: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        with torch.no_grad():
            return solver(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)
        ctx.size = output.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def jvp(ctx: Any, _solver: None, tangent: Tensor) -> Tensor:
        return tangent.new_zeros(ctx.size)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, solver: Callable[[Tensor], Tensor], y: Tensor) -> tuple[Tensor, int]:
        return _DetachedSolve.apply(solver, y.movedim(in_dims[1], 0)), 0


def detached_solve(solver: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """``solver(y)`` without derivatives; ``solver`` acts on any leading batch and may branch on values.

    Tensors that ``solver`` closes over must be detached.
    """
    return _DetachedSolve.apply(solver, y.detach())


def derivatives_wanted(*tensors: Tensor) -> bool:
    """Whether steps that only carry derivatives are worth taking.

    ``torch.func`` transforms differentiate within ``no_grad`` as well, as samplers and likelihoods do.
    """
    return torch.is_grad_enabled() or not eager_values(*tensors)
