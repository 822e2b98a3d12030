"""The data module that every data set here shares."""

from abc import abstractmethod

from lightning.pytorch import LightningDataModule
from torch import Tensor

from mirrorgen.data.loader import TensorLoader, Transform
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain

__all__ = ["SPLITS", "TensorDataModule"]

SPLITS = ("train", "val", "test")


class TensorDataModule(LightningDataModule):
    """Data in memory: a subclass says how to build the splits and on which domain they live.

    Batches are tuples ``(points,)`` or ``(points, conditions)``.

    Args:
        batch_size: Points per training batch and process.
        batches_per_epoch: Length of a training epoch; by default one pass over the data. Small data sets train
            faster with more, since Lightning has work to do at the end of each epoch.
        eval_batch_size: Points per batch of validation, test and prediction.
        seed: Seed of the split, of the order and of whatever else the data draw.
    """

    def __init__(
        self,
        batch_size: int = 256,
        batches_per_epoch: int | None = None,
        eval_batch_size: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.batches_per_epoch = batch_size, batches_per_epoch
        self.eval_batch_size, self.seed = eval_batch_size, seed
        self._splits: dict[str, tuple[Tensor, ...]] | None = None

    @property
    @abstractmethod
    def domain(self) -> Domain:
        """The set that holds the points."""

    @abstractmethod
    def build(self) -> dict[str, tuple[Tensor, ...]]:
        """The tensors of every split in ``SPLITS``, the same in every process."""

    @property
    def transform(self) -> Transform | None:
        """Randomised preprocessing of a batch of points; none by default."""
        return None

    def split(self, name: str) -> tuple[Tensor, ...]:
        """The stored tensors of one split, before ``transform``."""
        if name not in SPLITS:
            raise DomainError(f"unknown split {name!r}; choose one of {', '.join(SPLITS)}")
        if self._splits is None:
            self._splits = self.build()
        return self._splits[name]

    def points(self, name: str = "train") -> Tensor:
        """The points ``(n, dim)`` of one split as a model sees them, strictly inside ``domain``."""
        return self.loader(name).points

    def conditions(self, name: str = "train") -> Tensor | None:
        """The conditions ``(n, ...)`` of one split, if the data have any."""
        tensors = self.split(name)
        return tensors[1] if len(tensors) > 1 else None

    def setup(self, stage: str | None = None) -> None:
        self.split("train")

    def loader(self, name: str) -> TensorLoader:
        """Batches of one split, sharded over the processes of the trainer that holds this module."""
        train = name == "train"
        return TensorLoader(
            self.split(name),
            self.batch_size if train else self.eval_batch_size,
            shuffle=train,
            batches=self.batches_per_epoch,
            seed=self.seed,
            transform=self.transform,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )

    def train_dataloader(self) -> TensorLoader:
        return self.loader("train")

    def val_dataloader(self) -> TensorLoader:
        return self.loader("val")

    def test_dataloader(self) -> TensorLoader:
        return self.loader("test")

    def predict_dataloader(self) -> TensorLoader:
        return self.loader("test")
