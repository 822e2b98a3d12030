"""Constrained sampling in one call."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain, Polytope
from mirrorgen.geometry.mirror_maps import default
from mirrorgen.geometry.mirror_maps.base import MirrorMap
from mirrorgen.samplers.base import Kernel
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.density import LogDensity
from mirrorgen.samplers.hmc import MirroredHMC
from mirrorgen.samplers.run import run
from mirrorgen.samplers.starts import starting_points
from mirrorgen.samplers.walks import BilliardWalk, TruncatedGaussianGibbs
from mirrorgen.targets import TruncatedNormal, Uniform

__all__ = ["sample"]


def sample(
    log_density: LogDensity | None,
    domain: Domain,
    num_samples: int,
    *,
    kernel: str | Kernel | type[Kernel] = "auto",
    mirror_map: MirrorMap | None = None,
    num_chains: int | None = None,
    num_warmup: int = 400,
    thin: int = 1,
    initial: Tensor | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
    compile: bool = False,
    directory: Path | str | None = None,
    warn: bool = True,
) -> Chain:
    """Draw from a density on a convex set: picks map, kernel and starts, tunes, samples, and says what went wrong.

    Args:
        log_density: Unnormalised log-density, points ``(chains, dim)`` to values ``(chains,)``, built of torch
            operations; an attribute ``score`` with the gradient replaces autograd. With respect to the measure of the
            domain (for a simplex, Lebesgue measure on the first ``K-1`` coordinates). None is the uniform law.
        domain: The set; equality constraints are part of it (``Simplex``, ``Polytope(A, b, A_eq, b_eq)``).
        num_samples: Draws asked for, over all chains; rounded up to a multiple of the number of chains.
        kernel: ``"auto"``, the name of a kernel in ``mirrorgen.samplers``, a kernel class, or a kernel, which then
            brings its own density and map. ``"auto"`` is Hamiltonian Monte Carlo in the dual; on polytopes whose map
            iterates it is a billiard walk for uniform laws and Gibbs sampling for ``targets.TruncatedNormal``.
        mirror_map: The map that kernels move in; ``mirror_maps.default(domain)`` if None.
        num_chains: Chains that run side by side; between 4 and 256, so that each has at least 100 draws, if None.
        num_warmup: Steps that tune the kernel and are not kept.
        thin: Steps per draw.
        initial: Starting points ``(num_chains, dim)``; spread around the centre if None.
        dtype: Of the draws; the default dtype if None.
        device: Where to sample.
        generator: Source of randomness; draws repeat with the same state of it.
        progress: Whether to show progress.
        compile: Whether to compile the step: some seconds that pay off on long runs.
        directory: Folder for the draws and a checkpoint, see ``samplers.run``.
        warn: Whether to warn, naming the cause, if R-hat, acceptance, feasibility or densities look wrong.

    Returns:
        A ``Chain``: ``positions``, ``stats``, ``summary()``, ``to_arviz()``.

    Raises:
        DomainError: If the set has no map, the density is not finite where chains start, or a name is unknown.
        ShapeError: If the density returns the wrong shape.
    """
    if num_samples < 1 or (num_chains is not None and num_chains < 1):
        raise DomainError(f"sample needs num_samples >= 1 and num_chains >= 1, got {num_samples} and {num_chains}")
    if log_density is None:
        if not domain.bounded:
            raise DomainError(f"{domain!r} has no uniform law: it is unbounded; pass a log_density")
        log_density = Uniform(domain)
    if initial is not None:
        domain.check(initial, "initial")
        num_chains, dtype, device = len(initial), initial.dtype, initial.device
    chains = num_chains or min(max(num_samples // 100, 4), 256)
    built = _kernel(kernel, log_density, domain, mirror_map)
    x = initial
    if x is None:
        # Spread in the dual of the map that the kernel moves in; kernels without one start where the default map does.
        spread = mirror_map or getattr(built, "mirror_map", None) or default(built.domain)
        x = starting_points(log_density, spread, chains, dtype=dtype, device=device, generator=generator)
    chain = run(
        built, x, math.ceil(num_samples / chains) * thin, num_warmup=num_warmup, thin=thin, generator=generator,
        progress=progress, compile=compile, directory=directory,
    )  # fmt: skip
    if warn:
        chain.warn(stacklevel=3)
    return chain


def _kernel(
    kernel: str | Kernel | type[Kernel], log_density: LogDensity, domain: Domain, mirror_map: MirrorMap | None
) -> Kernel:
    if isinstance(kernel, Kernel):
        if repr(kernel.domain) != repr(domain):
            raise DomainError(f"the kernel samples {kernel.domain!r}, which is not the domain given, {domain!r}")
        return kernel
    if kernel == "auto":
        kernel = _suited(log_density, domain, mirror_map)
    build = _named(kernel) if isinstance(kernel, str) else kernel
    known = inspect.signature(build).parameters
    offered: dict[str, Callable[[], Any]] = {
        "log_density": lambda: log_density,
        "domain": lambda: domain,
        "mirror_map": lambda: mirror_map or default(domain),
    }
    required = {name for name, parameter in known.items() if parameter.default is parameter.empty}
    # Kernels that need no map ask for the set under these names, which others use for options.
    offered |= {name: lambda: domain for name in ("body", "space") if name in required}
    if missing := sorted(required - offered.keys()):
        raise DomainError(f"{build.__name__} needs {' and '.join(missing)} as well; build it and pass kernel=...")
    return build(**{name: make() for name, make in offered.items() if name in known})


def _suited(log_density: LogDensity, domain: Domain, mirror_map: MirrorMap | None) -> type[Kernel]:
    """The fastest exact kernel for what is known of the problem, as measured on uniform and Gaussian laws."""
    if mirror_map is None and isinstance(domain, Polytope):
        if isinstance(log_density, TruncatedNormal):
            return TruncatedGaussianGibbs
        if isinstance(log_density, Uniform):
            return BilliardWalk
    return MirroredHMC


def _named(name: str) -> Callable[..., Kernel]:
    from mirrorgen import samplers

    classes = {k: v for k in samplers.__all__ if inspect.isclass(v := getattr(samplers, k)) and issubclass(v, Kernel)}
    names = [name for name, kind in classes.items() if not inspect.isabstract(kind)]
    if name not in names:
        raise DomainError(f"kernel {name!r} is unknown; choose 'auto' or one of {', '.join(sorted(names))}")
    return getattr(samplers, name)
