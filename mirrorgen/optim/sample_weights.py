"""Weights of samples between several losses, learnt by mirror ascent."""

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.domains import Simplex
from mirrorgen.geometry.mirror_maps import SimplexEntropy
from mirrorgen.geometry.validation import should_check

__all__ = ["SampleWeights"]


class SampleWeights(nn.Module):
    """``min_theta max_w mean_i sum_k w_ik l_ik(theta)``: a point ``w_i`` of a simplex for every sample of a data set.

    A step of ascent adds ``step_size (l_ik - l_iK)`` to the log-odds ``y_ik = log(w_ik / w_iK)`` of the samples of a
    batch. With two losses this is mirror ascent with the Fermi-Dirac entropy, ``logit w_i += step_size (l_i1 - l_i2)``:
    each sample ends with the larger of its losses. The log-odds are the state. A weight that is stored itself
    underflows to zero after some hundred steps and then stays there, whatever the losses become.

    The descent is any optimiser's: ``weights(index, losses)`` is the objective of a batch, to be differentiated in what
    ``losses`` came from, and ``weights.ascend(index, losses)`` the step of the weights. For the guarantee of
    descent-ascent call both at the same losses; averages of ``weights.values()`` over steps are its second player.
    Log-odds are a buffer: they move with the module and are in its ``state_dict``.

    Args:
        num_samples: Size of the data set.
        step_size: Of the ascent, positive.
        num_losses: ``K``, at least two.
        dtype: Of the log-odds; the default one if None.

    Raises:
        DomainError: If a number is out of range.

    Source: Dong, Xie, Ward, "Adaptively Weighted Data Augmentation Consistency Regularization for Robust Optimization
    under Concept Shift", 2023.
    """

    log_odds: Tensor

    def __init__(
        self, num_samples: int, step_size: float, *, num_losses: int = 2, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if num_samples < 1 or num_losses < 2 or not step_size > 0:
            raise DomainError(
                f"SampleWeights needs num_samples >= 1, num_losses >= 2 and step_size > 0, got {num_samples}, "
                f"{num_losses} and {step_size}"
            )
        self.step_size = step_size
        self.mirror_map = SimplexEntropy(Simplex(num_losses), chart="alr")
        self.register_buffer("log_odds", torch.zeros(num_samples, num_losses - 1, dtype=dtype))

    def extra_repr(self) -> str:
        return f"{len(self.log_odds)}, step_size={self.step_size:g}, num_losses={self.mirror_map.domain.dim}"

    def values(self, index: Tensor | None = None) -> Tensor:
        """Weights ``(*index.shape, K)``, of all samples in their order if ``index`` is None; strictly inside.

        Args:
            index: Numbers of samples, of any shape.
        """
        return self.mirror_map.to_primal(self.log_odds if index is None else self.log_odds[index])

    def forward(self, index: Tensor, losses: Tensor) -> Tensor:
        """``mean_i sum_k w_ik l_ik`` over a batch, with weights held constant: one number.

        Args:
            index: Numbers of the samples of the batch, ``(m)``.
            losses: Their losses ``(m, K)``.

        Raises:
            ShapeError: If shapes do not fit.
        """
        self._check(index, losses)
        return (self.values(index).to(losses.dtype) * losses).sum(-1).mean()

    @torch.no_grad()
    def ascend(self, index: Tensor, losses: Tensor) -> None:
        """One step of the samples of a batch; a sample that is in it twice takes two.

        Args:
            index: Numbers of the samples of the batch, ``(m)``.
            losses: Their losses ``(m, K)``.

        Raises:
            ShapeError: If shapes do not fit.
            DomainError: If a loss is not finite; no weight is then changed.
        """
        self._check(index, losses)
        if should_check(losses) and not bool(torch.isfinite(losses).all()):
            raise DomainError("losses must be finite: one NaN or infinity would stay in the weight of its sample")
        step = self.step_size * self.mirror_map.pull_back(losses.to(self.log_odds.dtype))
        self.log_odds.index_add_(0, index, step)

    def _check(self, index: Tensor, losses: Tensor) -> None:
        expected = (*index.shape, self.mirror_map.domain.dim)
        if index.ndim != 1 or losses.shape != expected:
            raise ShapeError(
                f"index must be (m) and losses (m, {expected[-1]}), got {tuple(index.shape)} and {tuple(losses.shape)}"
            )
