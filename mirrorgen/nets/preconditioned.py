"""A network as a correction to the best linear velocity."""

from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.nets.base import Net

__all__ = ["Preconditioned"]


class Preconditioned(Net):
    """``v(x, t) = c_skip(t) x + c_out(t) net(c_in(t) x, t)``, the network on inputs and targets of unit scale.

    For independent noise of deviation ``p`` and data of deviation ``s``, ``x_t = (1-t) x_0 + t x_1`` has variance
    ``q^2 = (1-t)^2 p^2 + t^2 s^2``, the best linear predictor of ``x_1 - x_0`` is ``c_skip x_t`` with
    ``c_skip = (t s^2 - (1-t) p^2) / q^2`` and leaves the deviation ``c_out = p s / q``; ``c_in = 1 / q``.
    Coordinates that are close to independent noise are then right from the first step, and the capacity of the
    network goes to the rest.

    Source: the preconditioning of Karras, Aittala, Aila and Laine, "Elucidating the Design Space of
    Diffusion-Based Generative Models" (2022), carried over to linear paths.

    Args:
        net: The backbone.
        data_std: Deviation ``s`` of the data in the flow's coordinates; 1 after standardisation.
        noise_std: Deviation ``p`` of the prior; 1 for the Gaussian, ``sqrt(df / (df - 2))`` for Student's t.

    Raises:
        DomainError: If a deviation is not positive.
    """

    def __init__(self, net: Net, data_std: float = 1.0, noise_std: float = 1.0) -> None:
        super().__init__(net.dim, 0, 0, 1)
        if data_std <= 0 or noise_std <= 0:
            raise DomainError(f"deviations must be positive, got data_std={data_std}, noise_std={noise_std}")
        self.net, self.data_std, self.noise_std = net, data_std, noise_std
        self.num_classes, self.condition_dim = net.num_classes, net.condition_dim

    def forward(self, x: Tensor, t: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """As ``Net.forward``."""
        time = self.check_inputs(x, t).unsqueeze(-1).to(x.dtype)
        noise, data = (1 - time) * self.noise_std, time * self.data_std
        variance = noise.square() + data.square()
        skip = (data * self.data_std - noise * self.noise_std) / variance
        scale = variance.rsqrt()
        # Under autocast the skip path stays in the precision of the state.
        return skip * x + self.noise_std * self.data_std * scale * self.net(scale * x, t, condition)

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        return self.net(x, t)
