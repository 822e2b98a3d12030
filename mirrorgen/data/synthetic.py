"""Data drawn from a target law."""

from torch import Tensor

from mirrorgen.data.base import SPLITS, TensorDataModule
from mirrorgen.geometry.domains import Domain
from mirrorgen.seeding import counter_generator
from mirrorgen.targets import Target

__all__ = ["Synthetic"]


class Synthetic(TensorDataModule):
    """Independent training, validation and test draws of a target.

    Args:
        target: The law, for example ``mirrorgen.data.polytope10()``.
        num_train: Number of training points.
        num_eval: Number of validation points, and of test points.
        batch_size: See ``TensorDataModule``.
        batches_per_epoch: See ``TensorDataModule``.
        eval_batch_size: See ``TensorDataModule``.
        seed: Seed of the draws and of the order.
    """

    def __init__(
        self,
        target: Target,
        num_train: int = 10_000,
        num_eval: int = 10_000,
        batch_size: int = 256,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, batches_per_epoch, eval_batch_size, seed)
        self.target, self.num_train, self.num_eval = target, num_train, num_eval

    @property
    def domain(self) -> Domain:
        return self.target.domain

    def build(self) -> dict[str, tuple[Tensor, ...]]:
        sizes = (self.num_train, self.num_eval, self.num_eval)
        # Models train in float32, where a draw next to a face may round onto it.
        return {
            name: (self.domain.pull_inside(self._draw(n, i).float())[0],)
            for i, (name, n) in enumerate(zip(SPLITS, sizes, strict=True))
        }

    def _draw(self, n: int, split: int) -> Tensor:
        return self.target.sample(n, generator=counter_generator(self.seed, 2, split))
