"""Bayesian logistic regression with a sparsity-inducing prior."""

import numpy as np
import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.geometry.bregman import L1Norm
from mirrorgen.geometry.domains import Euclidean
from mirrorgen.targets.composite import CompositeTarget

__all__ = ["SparseLogistic"]


class SparseLogistic(CompositeTarget):
    """The posterior of ``t`` given labels ``z_n ~ Bernoulli(sigmoid(<t, X_n>))`` and an elastic-net prior.

    ``f(t) = sum_n [log(1 + e^<t, X_n>) - z_n <t, X_n>] + ridge |t|^2 / 2``, ``g(t) = sum_i weight_i |t_i|``.

    Args:
        features: ``X (n, dim)``.
        labels: ``z (n,)``, zeros and ones.
        weight: Weights of the L1 norm, a number or ``(dim,)``.
        ridge: Weight of the squared norm.

    Raises:
        ShapeError: If there is not one label per row.
    """

    domain: Euclidean

    def __init__(self, features: Tensor, labels: Tensor, weight: float | Tensor, ridge: float = 0.1) -> None:
        self.features = torch.as_tensor(features, dtype=torch.float64)
        self.labels = torch.as_tensor(labels, dtype=torch.float64)
        if self.features.ndim != 2 or self.labels.shape != (len(self.features),):
            shapes = f"{tuple(self.features.shape)} and {tuple(self.labels.shape)}"
            raise ShapeError(f"SparseLogistic needs features (n, dim) and labels (n,), got {shapes}")
        self.ridge = ridge
        self.domain = Euclidean(self.features.shape[1])
        self.nonsmooth = L1Norm(weight)

    @classmethod
    def synthetic(cls, dim: int = 100, n: int = 1000, seed: int = 0) -> "SparseLogistic":
        """The data of the publication: normal features, truth in ten steps from 0 to 0.9, L1 weights from 10 to 1.

        Drawn from NumPy's legacy generator, whose stream is frozen: seed 0 gives the published data set.
        ``truth`` of the result is the vector that made the labels.

        Source: Lau, Liu, "Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes", 2022.
        """
        if dim % 10:
            raise ShapeError(f"the truth has ten blocks of equal length: dim must be a multiple of 10, got {dim}")
        truth = torch.arange(10, dtype=torch.float64).repeat_interleave(dim // 10) / 10
        stream = np.random.RandomState(seed)
        features = stream.randn(dim, n)
        labels = stream.binomial(1, 1 / (1 + np.exp(-truth.numpy() @ features)))
        weight = torch.arange(10.0, 0.0, -1.0, dtype=torch.float64).repeat_interleave(dim // 10)
        target = cls(torch.from_numpy(features.T.copy()), torch.from_numpy(labels), weight)
        target.truth = truth
        return target

    truth: Tensor | None = None

    def smooth_value(self, x: Tensor) -> Tensor:
        logits = x @ self.features.to(x).mT
        fit = (self.labels.to(x) * logits - torch.logaddexp(logits, torch.zeros_like(logits))).sum(-1)
        return fit - 0.5 * self.ridge * x.square().sum(-1)

    def smooth_score(self, x: Tensor) -> Tensor:
        features = self.features.to(x)
        return (self.labels.to(x) - torch.sigmoid(x @ features.mT)) @ features - self.ridge * x
