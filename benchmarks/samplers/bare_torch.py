"""Hamiltonian Monte Carlo written by hand in torch for one law at a time: what a library costs is read off it."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.samplers.closed_form import BoxLaw, SimplexLaw, dual_law
from benchmarks.samplers.contender import JITTER, Contender, Sampler, block_of, leapfrog_setting, start
from benchmarks.samplers.problems import Problem

State = tuple[Tensor, Tensor, Tensor]
"""Dual points ``(chains, dual_dim)``, log-densities ``(chains,)``, gradients ``(chains, dual_dim)``."""


def simplex_law(law: SimplexLaw) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient of ``sum a log softmax(V y)``."""
    total = float(law.concentration.sum())
    transposed = law.basis.mT.contiguous()

    def at(y: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(y @ transposed, -1)
        return logs @ law.concentration, (law.concentration - total * logs.exp()) @ law.basis

    return at


def box_law(law: BoxLaw) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient of the law of the logits."""

    def at(y: Tensor) -> tuple[Tensor, Tensor]:
        s, t = torch.sigmoid(y), torch.sigmoid(-y)
        value, gradient = (s * t).log().sum(-1), t - s
        if law.precision is None:
            return value, gradient
        offset = law.low + law.width * s - law.location
        pull = offset @ law.precision
        return value - 0.5 * (offset * pull).sum(-1), gradient - law.width * s * t * pull

    return at


def point(law: SimplexLaw | BoxLaw, y: Tensor) -> Tensor:
    """The point of the domain."""
    if isinstance(law, SimplexLaw):
        return torch.softmax(y @ law.basis.mT, -1)
    return law.low + law.width * torch.sigmoid(y)


def transition(
    at: Callable[[Tensor], tuple[Tensor, Tensor]], step_size: float, num_steps: int
) -> Callable[[State, Tensor, Tensor], State]:
    """One Metropolis-adjusted path; the same algorithm as ``MirroredHMC``."""

    def step(state: State, normal: Tensor, uniform: Tensor) -> State:
        y, value, gradient = state
        eps = step_size * (1 + JITTER * (2 * uniform[:, 1:] - 1))
        p = normal + 0.5 * eps * gradient
        for i in range(num_steps):
            y = y + eps * p
            new_value, new_gradient = at(y)
            p = p + (eps if i < num_steps - 1 else 0.5 * eps) * new_gradient
        kinetic = 0.5 * (normal.square() - p.square()).sum(-1)
        accepted = uniform[:, 0].log() < new_value - value + kinetic
        wide = accepted.unsqueeze(-1)
        return (
            torch.where(wide, y, state[0]),
            torch.where(accepted, new_value, value),
            torch.where(wide, new_gradient, gradient),
        )

    return step


def prepare(problem: Problem, chains: int, dtype: torch.dtype, compiled: bool) -> Sampler:
    """Chains of ``transition``."""
    law = dual_law(problem, dtype)
    at = simplex_law(law) if isinstance(law, SimplexLaw) else box_law(law)
    step = transition(at, problem.step_size, problem.num_steps)
    if compiled:
        step = torch.compile(step)
    generator = torch.Generator().manual_seed(7)
    y = problem.mirror_map.to_dual(start(problem, chains, dtype))
    state: State = (y, *at(y))

    @torch.no_grad()
    def sample(draws: int) -> Tensor:
        nonlocal state
        x = y.new_empty(draws, chains, problem.target.domain.dim)
        for i in range(draws):
            normal = torch.randn(y.shape, generator=generator, dtype=dtype)
            uniform = torch.rand(chains, 2, generator=generator, dtype=dtype)
            state = step(state, normal, uniform)
            x[i] = point(law, state[0])
        return x

    return sample


def contenders(problem: Problem) -> list[Contender]:
    """By hand where the dual law is in closed form."""
    if not problem.closed:
        return []
    modes = [(chains, False) for chains in problem.chains]
    if problem.full:
        modes += [(chains, True) for chains in problem.chains]

    def build(chains: int, compiled: bool) -> Contender:
        name = f"torch by hand{', compiled' if compiled else ''}"
        setting = leapfrog_setting(problem)
        return Contender(
            name, chains, "float32", setting, lambda p: prepare(p, chains, torch.float32, compiled),
            block_of(problem, chains),
        )  # fmt: skip

    return [build(*mode) for mode in modes]
