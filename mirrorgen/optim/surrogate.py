"""Surrogates of a loss in the space of a model's outputs: many cheap steps per expensive gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.mirror_maps import MirrorMap

__all__ = ["BregmanSurrogate"]


class BregmanSurrogate:
    """``g(z) = l(z_t) + <grad l(z_t), z - z_t> + D(z, z_t) / step``, a function of what a model puts out.

    The expensive loss ``l`` (a simulator, a reward) is differentiated once, at the outputs ``z_t``; then the parameters
    of the model take any number of steps on ``g(model(inputs))``. For ``step <= 1 / L`` with ``l`` ``L``-smooth
    relative to the map, ``g`` lies above ``l`` and touches it at ``z_t``: no decrease of ``g`` is lost on ``l``. With
    ``Quadratic`` its minimum over the outputs that a model can reach is the projected gradient step. With
    ``SimplexEntropy`` the divergence is that of Kullback and Leibler, and the iteration mirror descent on policies.

    Args:
        mirror_map: The geometry of outputs.
        loss: ``l``: outputs ``(*batch, dim)`` to one number.
        outputs: ``z_t (*batch, dim)``, strictly inside; detached.
        step_size: ``step``.

    Raises:
        ShapeError: If the loss is not one number, or the last axis of outputs is not the domain's.
        DomainError: If ``step_size`` is not positive, or an output outside the domain.

    Source: Lavington, Vaswani, Babanezhad, Schmidt, Le Roux, "Target-based Surrogates for Stochastic Optimization",
    2023.
    """

    def __init__(
        self, mirror_map: MirrorMap, loss: Callable[[Tensor], Tensor], outputs: Tensor, step_size: float
    ) -> None:
        if not step_size > 0:
            raise DomainError(f"step_size must be positive, got {step_size}")
        self.mirror_map, self.step_size = mirror_map, step_size
        self.outputs = outputs.detach().clone().requires_grad_()
        mirror_map.domain.check(self.outputs.detach(), "outputs")
        with torch.enable_grad():
            value = loss(self.outputs)
            if value.ndim:
                raise ShapeError(f"loss must give one number for all outputs, got shape {tuple(value.shape)}")
            (self.gradient,) = torch.autograd.grad(value, self.outputs)
        self.outputs, self.value = self.outputs.detach(), value.detach()

    def __call__(self, outputs: Tensor) -> Tensor:
        """``g`` at ``outputs`` of the shape of ``z_t``: a number to differentiate."""
        moved = (self.gradient * (outputs - self.outputs)).sum()
        return self.value + moved + self.mirror_map.divergence(outputs, self.outputs).sum() / self.step_size

    def target(self) -> Tensor:
        """The minimum of ``g`` over all outputs, ``grad phi*(grad phi(z_t) - step grad l(z_t))``."""
        y = self.mirror_map.to_dual(self.outputs) - self.step_size * self.mirror_map.pull_back(self.gradient)
        return self.mirror_map.to_primal(y)
