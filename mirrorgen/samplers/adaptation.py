"""Warm-up: the step size by dual averaging, the scale from the covariance of the dual points, the path length."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mirrorgen.samplers.base import Info, Kernel, Noise
from mirrorgen.samplers.scale import initial_scale

__all__ = ["DualAveraging", "tunable", "warm_up"]

PATH = 0.5 * math.pi
"""Length of a path in units of the scale: a quarter of the period of a Gaussian, where draws decorrelate."""
MAX_LEAPFROG = 64
DENSE_LIMIT = 256


@dataclass(frozen=True)
class DualAveraging:
    """Stochastic approximation of the step size at which the mean acceptance is ``target``.

    ``log eps_t = mu - sqrt(t) / gamma * h_t`` with ``h_t`` the running mean of ``target - acceptance``; the answer is
    a weighted mean of ``log eps_t``. The acceptance is the mean over all chains.

    Args:
        log_start: ``mu``, the value that early steps shrink to.
        target: Acceptance asked for.

    Source: Hoffman, Gelman, "The No-U-Turn sampler", 2014, section 3.2, with its constants.
    """

    log_start: float
    target: float
    count: int = 0
    error: float = 0.0
    log_mean: float = 0.0

    @property
    def log_step(self) -> float:
        """The step size to try next, in logs."""
        return self.log_start - math.sqrt(self.count) / 0.05 * self.error

    def update(self, acceptance: float) -> "DualAveraging":
        """After a step with this mean acceptance."""
        count = self.count + 1
        rate = 1 / (count + 10)
        error = (1 - rate) * self.error + rate * (self.target - acceptance)
        moved = dataclasses.replace(self, count=count, error=error)
        weight = count**-0.75
        return dataclasses.replace(moved, log_mean=weight * moved.log_step + (1 - weight) * self.log_mean)


def tunable(kernel: Kernel) -> bool:
    """Whether warm-up has a step size to tune."""
    return kernel.target_acceptance is not None


def warm_up(
    kernel: Kernel,
    state: Any,
    num_steps: int,
    noise: Callable[[int], Noise],
    advance: Callable[[], None] = lambda: None,
) -> tuple[Kernel, Any]:
    """Take ``num_steps`` steps and return the tuned kernel with the last state.

    Kernels with ``target_acceptance`` get a step size; those with a field ``scale`` that is None get the square root
    of the covariance of ``state.y`` over chains and time, estimated over windows that double (dense up to dimension
    256 if there are enough draws, else diagonal); those with ``num_steps`` get paths of length pi/2 in that scale.
    Other kernels just run.

    Args:
        kernel: The sampler as the user set it up.
        state: Where the chains are.
        num_steps: Length of the warm-up.
        noise: The noise of step ``t``.
        advance: Called after every step.
    """
    if num_steps == 0 or not tunable(kernel):
        for t in range(num_steps):
            state, _ = kernel.step(state, noise(t))
            advance()
        return kernel, state
    learns_scale = getattr(kernel, "scale", torch.empty(0)) is None
    mirror_map = getattr(kernel, "mirror_map", None)
    if learns_scale and mirror_map is not None and not mirror_map.closed_form:
        # A set of any shape: until there are draws to learn from, its barrier says how thin it is.
        first: dict[str, Any] = {"scale": initial_scale(mirror_map).to(state.y)}
        kernel = dataclasses.replace(kernel, **first)
    kernel = _first_step_size(kernel, state, noise(0))
    taken = 0
    for window in _windows(num_steps, learns_scale):
        moments = _Moments()
        averaging = DualAveraging(math.log(2 * float(kernel.step_size)), kernel.target_acceptance or 0.0)  # type: ignore[attr-defined]
        for _ in range(window):
            kernel = _with_step(kernel, math.exp(averaging.log_step))
            state, info = kernel.step(state, noise(taken))
            averaging = averaging.update(_mean_acceptance(info))
            if learns_scale:
                moments.add(state.y)
            taken += 1
            advance()
        kernel = _with_step(kernel, math.exp(averaging.log_mean))
        if learns_scale and taken < num_steps:
            # The step size was found in the old units; about one is right in the new ones.
            changes: dict[str, Any] = {"scale": moments.scale(getattr(kernel, "scale", None))}
            kernel = dataclasses.replace(kernel, **changes)
            kernel = _first_step_size(kernel, state, noise(taken))
    return kernel, state


def _windows(num_steps: int, learns_scale: bool) -> Iterator[int]:
    """Lengths of the windows: a first one, some that double, and a last one for the step size alone."""
    if not learns_scale or num_steps < 40:
        yield num_steps
        return
    last = max(num_steps // 4, 15)
    rest = num_steps - last
    length = max(rest // 7, 5)
    while rest >= 3 * length:
        yield length
        rest -= length
        length *= 2
    yield rest
    yield last


def _with_step(kernel: Kernel, step_size: float) -> Kernel:
    changes: dict[str, Any] = {"step_size": step_size}
    if hasattr(kernel, "num_steps"):
        changes["num_steps"] = min(max(round(PATH / step_size), 1), MAX_LEAPFROG)
    return dataclasses.replace(kernel, **changes)


def _mean_acceptance(info: Info) -> float:
    return float(info.acceptance.mean())


def _first_step_size(kernel: Kernel, state: Any, noise: Noise) -> Kernel:
    """Double or halve the step size until the acceptance of one step crosses one half."""
    step_size = float(kernel.step_size)  # type: ignore[attr-defined]
    direction = 0
    for _ in range(60):
        # One leapfrog step tells as much as a path and costs less.
        changes = {"step_size": step_size} | ({"num_steps": 1} if hasattr(kernel, "num_steps") else {})
        _, info = dataclasses.replace(kernel, **changes).step(state, noise)
        towards = 1 if _mean_acceptance(info) > 0.5 else -1
        if direction and towards != direction:
            break
        direction = towards
        step_size *= 2.0**direction
    return _with_step(kernel, step_size)


class _Moments:
    """Mean and covariance of dual points over chains and time, about the first batch to avoid cancellation."""

    def __init__(self) -> None:
        self.count = 0
        self.origin: Tensor | None = None

    def add(self, y: Tensor) -> None:
        y = y.double()
        if self.origin is None:
            self.origin = y.mean(0)
            self.sum, self.outer = torch.zeros_like(self.origin), y.new_zeros(y.shape[1], y.shape[1])
        shifted = y - self.origin
        self.sum = self.sum + shifted.sum(0)
        self.outer = self.outer + shifted.mT @ shifted
        self.count += len(y)

    def scale(self, last: Tensor | None) -> Tensor:
        """A square root of the covariance, shrunk a little towards a multiple of ``last last^T``.

        In the coordinates of the last scale the covariance is nearer to a multiple of the identity than in others:
        window by window any conditioning can be learnt.
        """
        mean = self.sum / self.count
        covariance = self.outer / self.count - torch.outer(mean, mean)
        dim = len(mean)
        root = torch.eye(dim).to(covariance) if last is None else last.to(covariance)
        root = torch.diag(root) if root.ndim == 1 else root
        white = torch.linalg.solve(root, torch.linalg.solve(root, covariance).mT)
        weight = self.count / (self.count + 5.0 * math.sqrt(dim))
        white = weight * white + (1 - weight) * torch.diagonal(white).mean() * torch.eye(dim).to(white)
        if dim <= DENSE_LIMIT and self.count >= 20 * dim:
            factor, info = torch.linalg.cholesky_ex(0.5 * (white + white.mT))
            if not bool(info):
                return root @ factor
        spread = torch.diagonal(white).clamp_min(0).sqrt()
        return root * spread if last is not None and last.ndim == 2 else torch.diagonal(root) * spread
