"""The walks of hopsy on uniform laws and normal laws in boxes, four chains one after the other on one core."""

from collections.abc import Callable
from typing import Any

import hopsy
import numpy as np
import torch
from torch import Tensor

from benchmarks.samplers.contender import Contender, Sampler, start
from benchmarks.samplers.problems import Problem
from mirrorgen import domains
from mirrorgen.targets import TruncatedNormal

CHAINS = 4


def half_spaces(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """``A z <= b`` in the isometric chart, so that equalities take no part."""
    rows, bounds = problem.target.domain.halfspaces()
    return rows.numpy(), bounds.numpy()


def built(problem: Problem, rounded: bool) -> Any:
    """The problem of hopsy; ``rounded`` puts its largest inscribed ellipsoid in isotropic position first."""
    target = problem.target
    model = None
    if isinstance(target, TruncatedNormal):
        model = hopsy.Gaussian(mean=target.location.numpy(), covariance=target.covariance.numpy())
    posed = hopsy.Problem(*half_spaces(problem), model)
    return hopsy.round(posed) if rounded else posed


def prepare(problem: Problem, proposal: Callable, thin: int, rounded: bool) -> Sampler:
    """Chains from the common start."""
    posed = built(problem, rounded)
    domain = problem.target.domain
    starts = domain.to_chart(start(problem, CHAINS, torch.float64)).numpy()
    if rounded:
        starts = hopsy.transform(posed, starts)
    chains = [hopsy.MarkovChain(posed, proposal, starting_point=s) for s in starts]
    rngs = [hopsy.RandomNumberGenerator(31, i) for i in range(CHAINS)]

    def sample(draws: int) -> Tensor:
        _, states = hopsy.sample(chains, rngs, n_samples=draws, thinning=thin)
        return domain.from_chart(torch.from_numpy(np.ascontiguousarray(states.swapaxes(0, 1))))

    return sample


def contenders(problem: Problem) -> list[Contender]:
    """Walks that draw from the law; ``thin`` is the dimension for walks whose steps are one-dimensional."""
    dim = problem.target.domain.dual_dim
    if isinstance(problem.target, TruncatedNormal):
        entries = [
            ("hopsy truncated normal", hopsy.TruncatedGaussianProposal, 1, False),
            ("hopsy coordinate hit-and-run", hopsy.GaussianCoordinateHitAndRunProposal, dim, False),
        ]
    elif problem.uniform:
        entries = [
            ("hopsy coordinate hit-and-run", hopsy.UniformCoordinateHitAndRunProposal, dim, False),
            ("hopsy hit-and-run", hopsy.UniformHitAndRunProposal, dim, False),
            ("hopsy billiard", hopsy.BilliardWalkProposal, 1, False),
            ("hopsy Dikin", hopsy.DikinWalkProposal, dim, False),
        ]
        if type(problem.target.domain) is domains.Polytope:
            entries += [
                ("hopsy coordinate hit-and-run, rounded", hopsy.UniformCoordinateHitAndRunProposal, dim, True),
                ("hopsy billiard, rounded", hopsy.BilliardWalkProposal, 1, True),
            ]
    else:
        return []

    def build(name: str, proposal: Callable, thin: int, rounded: bool) -> Contender:
        return Contender(
            name, CHAINS, "float64", f"thin {thin}", lambda p: prepare(p, proposal, thin, rounded), block=1000
        )

    return [build(*entry) for entry in entries]
