"""The one list of sampler instances; a new kernel adds one line."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen import samplers as S
from mirrorgen import targets as T


@dataclass(frozen=True)
class Case:
    """A kernel with the law it should leave invariant.

    Attributes:
        kernel: Tuned so that most proposals are accepted and one step moves noticeably.
        target: With exact draws, mean and variance.
        exact: Whether the law is invariant exactly (adjusted kernels, Gibbs); unadjusted kernels are biased.
        build: The same kernel for another log-density, to test NaN; None if the kernel takes none.
    """

    kernel: S.Kernel
    target: T.Target
    exact: bool = True
    build: Callable[[Callable], S.Kernel] | None = None


def _hmc_simplex() -> Case:
    target = T.Dirichlet([0.5, 2.0, 3.0])
    build = lambda f: S.MirroredHMC(f, M.SimplexEntropy(target.domain), step_size=0.4, num_steps=3)  # noqa: E731
    return Case(build(target), target, build=build)


def _hmc_scaled() -> Case:
    target = T.Dirichlet([2.0, 2.0, 3.0])
    scale = torch.tensor([[0.7, 0.0], [0.1, 0.6]])
    build = lambda f: S.MirroredHMC(f, M.SimplexEntropy(target.domain, chart="alr"), 0.5, 3, scale=scale)  # noqa: E731
    return Case(build(target), target, build=build)


KERNELS: dict[str, Callable[[], Case]] = {
    "mirrored_hmc": _hmc_simplex,
    "mirrored_hmc_scaled": _hmc_scaled,
}
