"""What solvers return."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["TransportResult"]


class TransportResult(NamedTuple):
    """A plan with its potentials and how well it keeps its marginals.

    Attributes:
        plan: ``(*batch, n, m)``.
        f: Potential of the rows ``(*batch, n)``.
        g: Potential of the columns ``(*batch, m)``, with ``<nu, g> = 0``.
        error: Violation of the marginals in the 1-norm, over the mass, ``(*batch)``; without derivatives.
        iterations: Made for each problem ``(*batch)``, int64.
    """

    plan: Tensor
    f: Tensor
    g: Tensor
    error: Tensor
    iterations: Tensor
