"""Two networks whose outputs are added."""

from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.nets.base import Net

__all__ = ["Sum"]


class Sum(Net):
    """``first(x, t, condition) + second(x, t, condition)``.

    What one architecture cannot express, the other may: beside a U-Net, which treats all places of an image alike, a
    small ``ResidualMLP`` sees fixed patterns over the whole image, such as the tokens of a watermark.

    Args:
        first: A network.
        second: Another on the same points and, if any, the same conditions.

    Raises:
        ShapeError: If they act on different points or conditions.
    """

    def __init__(self, first: Net, second: Net) -> None:
        super().__init__(first.dim, 0, 0, 1)
        kinds = [(net.dim, net.num_classes, net.condition_dim) for net in (first, second)]
        if kinds[0] != kinds[1]:
            raise ShapeError(f"both networks need the same dim, num_classes and condition_dim, got {kinds}")
        self.first, self.second = first, second
        self.num_classes, self.condition_dim = first.num_classes, first.condition_dim

    def forward(self, x: Tensor, t: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """As ``Net.forward``."""
        return self.first(x, t, condition) + self.second(x, t, condition)

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        raise AssertionError("forward does everything")
