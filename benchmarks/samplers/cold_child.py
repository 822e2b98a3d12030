"""One cold start, run as a script: imports only what its contender needs and writes its draws with the CPU time.

``python cold_child.py CONTENDER PROBLEM FOLDER BLOCKS`` stores, after every block, the CPU seconds of the process so
far (interpreter and imports included) in ``times.json`` and the draws ``(draws, chains, dim)`` in ``draws.npy``.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

K, DIM, CONCENTRATION, WARMUP = 21, 50, 4.0, 400


def mirrored_hmc(problem: str) -> Iterator[Any]:
    """This library, eager, tuned by its own warm-up."""
    import torch

    torch.set_num_threads(1)
    from mirrorgen import domains, mirror_maps, samplers
    from mirrorgen.targets import Dirichlet, Uniform

    target = Dirichlet([CONCENTRATION] * K) if problem == "dirichlet" else Uniform(domains.Box(-1.0, 1.0, dim=DIM))
    entropy = mirror_maps.default(target.domain)
    generator = torch.Generator().manual_seed(0)
    x = samplers.starting_points(target, entropy, 64, generator=generator)
    kernel = samplers.MirroredHMC(target, entropy)
    chain = samplers.run(kernel, x, 1, num_warmup=WARMUP, generator=generator)
    while True:
        chain = samplers.run(chain.kernel, chain.positions[-1], 20, generator=generator)
        yield chain.positions.numpy()


def coordinate_sweeps(problem: str) -> Iterator[Any]:
    """This library's coordinate hit-and-run."""
    import torch

    torch.set_num_threads(1)
    from mirrorgen import domains, samplers

    box = domains.Box(-1.0, 1.0, dim=DIM)
    generator = torch.Generator().manual_seed(0)
    kernel, x = samplers.CoordinateHitAndRun(None, box), box.interior_point().float().expand(64, -1)
    while True:
        chain = samplers.run(kernel, x, 20, generator=generator)
        x = chain.positions[-1]
        yield chain.positions.numpy()


def blackjax_nuts(problem: str) -> Iterator[Any]:
    """Window adaptation of one chain, then four chains."""
    import blackjax
    import jax
    import jax.numpy as jnp
    import numpy as np

    j = np.arange(1, K)[:, None]
    rows = np.arange(K)
    basis = jnp.asarray(np.where(rows < j, 1.0, np.where(rows == j, -j, 0.0)) / np.sqrt(j * (j + 1)), dtype="float32")
    simplex = problem == "dirichlet"

    def log_density(y: Any) -> Any:
        if simplex:
            return CONCENTRATION * jax.nn.log_softmax(y @ basis).sum()
        return (jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y)).sum()

    def point(y: Any) -> Any:
        return jax.nn.softmax(y @ basis) if simplex else 2 * jax.nn.sigmoid(y) - 1

    key = jax.random.key(0)
    warmup = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, parameters), _ = warmup.run(key, jnp.zeros(K - 1 if simplex else DIM), WARMUP)
    kernel = blackjax.nuts(log_density, **parameters)

    @jax.jit
    def block(states: Any, key: Any) -> Any:
        def body(states: Any, key: Any) -> Any:
            states, _ = jax.vmap(kernel.step)(jax.random.split(key, 4), states)
            return states, point(states.position)

        return jax.lax.scan(body, states, jax.random.split(key, 200))

    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), state)
    while True:
        key, use = jax.random.split(key)
        states, x = block(states, use)
        yield np.asarray(x)


def hopsy_coordinate(problem: str) -> Iterator[Any]:
    """Coordinate hit-and-run from the Chebyshev centre, four chains, every ``DIM``-th step kept."""
    import hopsy
    import numpy as np

    eye = np.eye(DIM)
    posed = hopsy.Problem(np.concatenate([eye, -eye]), np.ones(2 * DIM))
    proposal, center = hopsy.UniformCoordinateHitAndRunProposal, hopsy.compute_chebyshev_center(posed)
    chains = [hopsy.MarkovChain(posed, proposal, starting_point=center) for _ in range(4)]
    rngs = [hopsy.RandomNumberGenerator(0, i) for i in range(4)]
    while True:
        yield hopsy.sample(chains, rngs, n_samples=100, thinning=DIM)[1].swapaxes(0, 1)


CONTENDERS: dict[str, Callable[[str], Iterator[Any]]] = {
    "MirroredHMC": mirrored_hmc,
    "CoordinateHitAndRun": coordinate_sweeps,
    "blackjax NUTS": blackjax_nuts,
    "hopsy coordinate hit-and-run": hopsy_coordinate,
}


def main(contender: str, problem: str, folder: str, blocks: str) -> None:
    """Draw, with the time after every block."""
    times, parts = [], []
    draw = CONTENDERS[contender](problem)
    for _ in range(int(blocks)):
        parts.append(next(draw))
        times.append(time.process_time())
    import numpy as np

    np.save(f"{folder}/draws.npy", np.concatenate(parts))
    with open(f"{folder}/times.json", "w") as file:
        json.dump(times, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
