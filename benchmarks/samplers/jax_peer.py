"""Peers in JAX, in the same dual coordinates: Hamiltonian Monte Carlo by hand, and blackjax with and without NUTS.

Everything from one block of draws to the next is one compiled ``lax.scan``; JAX computes in float32 on one thread.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)  # read when JAX is first imported

import blackjax
import jax
import jax.numpy as jnp
import torch
from torch import Tensor

from benchmarks.samplers.closed_form import SimplexLaw, dual_law
from benchmarks.samplers.contender import JITTER, Contender, Sampler, block_of, leapfrog_setting, start
from benchmarks.samplers.problems import Problem

Array = jax.Array
TUNING = 1000


def functions(problem: Problem) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Log-density of dual points and the map back, for single vectors or batches."""
    law = dual_law(problem, torch.float32)
    data = {k: None if v is None else jnp.asarray(v.numpy()) for k, v in vars(law).items()}
    if isinstance(law, SimplexLaw):
        basis, concentration = data["basis"], data["concentration"]
        return (
            lambda y: jax.nn.log_softmax(y @ basis.T) @ concentration,
            lambda y: jax.nn.softmax(y @ basis.T),
        )
    low, width, location, precision = data["low"], data["width"], data["location"], data["precision"]

    def log_density(y: Array) -> Array:
        value = (jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y)).sum(-1)
        if precision is None:
            return value
        offset = low + width * jax.nn.sigmoid(y) - location
        return value - 0.5 * ((offset @ precision) * offset).sum(-1)

    return log_density, lambda y: low + width * jax.nn.sigmoid(y)


Step = Callable[[Array, Any], Any]


def by_hand(problem: Problem, chains: int) -> tuple[Any, Step, Callable]:
    """The whole batch at once: initial state, step and position."""
    log_density, point = functions(problem)

    def at(y: Array) -> tuple[Array, Array]:
        value, pull = jax.vjp(log_density, y)
        return value, pull(jnp.ones_like(value))[0]

    def step(key: Array, state: Any) -> Any:
        y, value, gradient = state
        k1, k2 = jax.random.split(key)
        normal, uniform = jax.random.normal(k1, y.shape), jax.random.uniform(k2, (2, chains, 1))
        eps = problem.step_size * (1 + JITTER * (2 * uniform[1] - 1))
        z, new_value, new_gradient, p = y, value, gradient, normal + 0.5 * eps * gradient
        for i in range(problem.num_steps):
            z = z + eps * p
            new_value, new_gradient = at(z)
            p = p + (eps if i < problem.num_steps - 1 else 0.5 * eps) * new_gradient
        kinetic = 0.5 * (normal**2 - p**2).sum(-1)
        accepted = jnp.log(uniform[0, :, 0]) < new_value - value + kinetic
        wide = accepted[:, None]
        return (
            jnp.where(wide, z, y),
            jnp.where(accepted, new_value, value),
            jnp.where(wide, new_gradient, gradient),
        )

    y = initial(problem, chains)
    return (y, *at(y)), step, lambda state: point(state[0])


def static_hmc(problem: Problem, chains: int) -> tuple[Any, Step, Callable]:
    """Blackjax's HMC kernel with fixed step size and path length, mapped over chains."""
    log_density, point = functions(problem)
    kernel = blackjax.hmc.build_kernel()
    dim = problem.target.domain.dual_dim
    metric = jnp.ones(dim)

    def one(key: Array, state: Any) -> Any:
        k1, k2 = jax.random.split(key)
        eps = problem.step_size * (1 + JITTER * (2 * jax.random.uniform(k1) - 1))
        return kernel(k2, state, log_density, eps, metric, problem.num_steps)[0]

    state = jax.vmap(lambda y: blackjax.mcmc.hmc.init(y, log_density))(initial(problem, chains))
    return state, over_chains(one, chains), lambda s: point(s.position)


def nuts(problem: Problem, chains: int) -> tuple[Any, Step, Callable]:
    """NUTS with step size and diagonal metric from window adaptation of one chain."""
    log_density, point = functions(problem)
    warmup = blackjax.window_adaptation(blackjax.nuts, log_density)
    y = initial(problem, chains)
    (_, parameters), _ = warmup.run(jax.random.key(5), y[0], TUNING)
    kernel = blackjax.nuts.build_kernel()

    def one(key: Array, state: Any) -> Any:
        return kernel(key, state, log_density, parameters["step_size"], parameters["inverse_mass_matrix"])[0]

    state = jax.vmap(lambda v: blackjax.mcmc.nuts.init(v, log_density))(y)
    return state, over_chains(one, chains), lambda s: point(s.position)


def initial(problem: Problem, chains: int) -> Array:
    """Dual points of the common start."""
    return jnp.asarray(problem.mirror_map.to_dual(start(problem, chains, torch.float32)).numpy())


def over_chains(one: Step, chains: int) -> Step:
    return lambda key, states: jax.vmap(one)(jax.random.split(key, chains), states)


def prepare(problem: Problem, build: Callable, chains: int) -> Sampler:
    """Blocks of draws, each a compiled scan."""
    state, step, position = build(problem, chains)
    key = jax.random.key(3)

    def body(state: Any, key: Array) -> tuple[Any, Array]:
        state = step(key, state)
        return state, position(state)

    @jax.jit
    def block(state: Any, keys: Array) -> tuple[Any, Array]:
        return jax.lax.scan(body, state, keys)

    def sample(draws: int) -> Tensor:
        nonlocal state, key
        key, use = jax.random.split(key)
        state, x = block(state, jax.random.split(use, draws))
        return torch.from_dlpack(jax.block_until_ready(x))

    return sample


def contenders(problem: Problem) -> list[Contender]:
    """Where the dual law is in closed form; NUTS also with four chains, its usual number."""
    if not problem.closed:
        return []
    fixed, tuned = leapfrog_setting(problem), f"tuned in {TUNING} steps"
    entries = [("JAX by hand", by_hand, chains, fixed) for chains in problem.chains]
    entries += [("blackjax static HMC", static_hmc, chains, fixed) for chains in problem.chains]
    many = [256] if 256 in problem.chains and problem.full else []
    entries += [("blackjax NUTS", nuts, chains, tuned) for chains in [4, *many]]

    def build(name: str, of: Callable, chains: int, setting: str) -> Contender:
        return Contender(name, chains, "float32", setting, lambda p: prepare(p, of, chains), block_of(problem, chains))

    return [build(*entry) for entry in entries]
