"""Frechet distance between Gaussians."""

import torch
from torch import Tensor

from mirrorgen.errors import ShapeError
from mirrorgen.metrics.pairwise import check_samples

__all__ = ["frechet_distance", "frechet_distance_gaussian"]


@torch.no_grad()
def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared Wasserstein-2 distance between the Gaussians fitted to two samples, on their raw features.

    With the features of a classification network this is the Frechet inception distance (Heusel et al., "GANs
    Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017). It is biased
    upwards in finite samples: compare equal sample sizes, and report the value between two samples of data.

    Args:
        x: Sample ``(n, dim)``.
        y: Sample ``(m, dim)``.

    Returns:
        A non-negative scalar tensor in float64, the squared distance.

    Raises:
        ShapeError: If the shapes do not fit.
        DomainError: If a sample has fewer than two points or entries that are not finite.
    """
    x, y = check_samples(x, y, at_least=2)
    return frechet_distance_gaussian(x.mean(0), _covariance(x), y.mean(0), _covariance(y))


@torch.no_grad()
def frechet_distance_gaussian(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
    """``|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x^(1/2) S_y S_x^(1/2))^(1/2))``.

    Source: Dowson and Landau, "The Frechet Distance between Multivariate Normal Distributions" (1982).
    Both roots come from symmetric eigendecompositions: singular covariances give no complex values.

    Args:
        mean_x: Mean ``(dim,)``.
        cov_x: Covariance ``(dim, dim)``, symmetric, positive semidefinite.
        mean_y: Mean ``(dim,)``.
        cov_y: Covariance ``(dim, dim)``.

    Returns:
        A non-negative scalar tensor.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    dim = len(mean_x)
    if mean_y.shape != (dim,) or cov_x.shape != (dim, dim) or cov_y.shape != (dim, dim):
        raise ShapeError(
            f"means are ({dim},) and covariances ({dim}, {dim}); got {tuple(mean_y.shape)}, "
            f"{tuple(cov_x.shape)} and {tuple(cov_y.shape)}"
        )
    values, vectors = torch.linalg.eigh(cov_x)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ cov_y @ root
    cross = torch.linalg.eigvalsh(0.5 * (product + product.T)).clamp(min=0).sqrt().sum()
    squared = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross
    return squared.clamp(min=0)


def _covariance(x: Tensor) -> Tensor:
    # torch.cov returns a scalar for one feature.
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)
