"""Many perceptrons of one shape as one: batched products, and the geometric sum of frozen value networks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError

__all__ = ["QStack", "StackedMLP"]

# Rows per pass of a stack: hidden layers of all networks then stay in the cache of a core.
_ROWS = 256


class StackedMLP(nn.Module):
    """``count`` perceptrons of one shape; ``(batch, sizes[0])`` to ``(count, batch, sizes[-1])``.

    Each layer is one batched product of ``(count, in, out)`` weights. Initial weights are those of ``nn.Linear``, each
    network's its own.

    Args:
        count: Networks.
        sizes: Widths, from the input to the output.
        activation: Between layers.

    Raises:
        ShapeError: If there are fewer than two widths.
    """

    def __init__(self, count: int, sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise ShapeError(f"sizes needs the widths of input and output at least, got {list(sizes)}")
        self.count, self.sizes, self.activation = count, list(sizes), activation()
        shapes = [(m, n, m**-0.5) for m, n in pairwise(sizes)]
        self.weights = nn.ParameterList(torch.empty(count, m, n).uniform_(-b, b) for m, n, b in shapes)
        self.biases = nn.ParameterList(torch.empty(count, 1, n).uniform_(-b, b) for _, n, b in shapes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = _hidden(x, list(self.weights)[:-1], list(self.biases)[:-1], self.activation)
        return torch.baddbmm(self.biases[-1], hidden, self.weights[-1])


class QStack(nn.Module):
    """Logits of the policy that the last ``memory`` value functions make: a geometric sum, its oldest terms forgotten.

    Entropy-regularised mirror descent has ``xi_(k+1) = beta xi_k + alpha Q_k``. Of the last ``M`` value functions,

        ``xi = alpha / (1 - beta^M) sum_(i < M) beta^i Q_(k-i)``,

    where ``1 / (1 - beta^M)`` restores the total weight ``alpha / (1 - beta)`` of the endless sum. For ``k <= M`` it is
    the exact recursion from zero, up to that factor, and ``M -> infinity`` is the recursion itself. Where ``alpha`` and
    ``beta`` change, each term has decayed by the ``beta`` of every push since its own, and ``beta^M`` is the product of
    the last ``M``, the first of which are the present one as long as there were fewer pushes.

    Exactly ``memory`` groups of networks are kept in a ring. Decay and step size act on the output layer alone, which
    is recomputed at each push from weights as they were trained: nothing is rounded again and again.

    Args:
        memory: ``M``, value functions that are kept.
        ensemble: Networks per value function, which is their mean.
        sizes: Widths of each network.
        activation: Between layers.

    Raises:
        DomainError: If ``memory`` or ``ensemble`` is not a positive integer.

    Source: Shilova, Davey, Driss, Akrour, "StaQ: a Finite Memory Approach to Discrete Action Policy Mirror Descent",
    2025.
    """

    readout: Tensor
    offset: Tensor
    pushes: Tensor
    steps: Tensor
    decays: Tensor
    coefficients: Tensor
    forgotten: Tensor

    def __init__(self, memory: int, ensemble: int, sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        if min(memory, ensemble) < 1:
            raise DomainError(f"memory and ensemble must be positive integers, got {memory} and {ensemble}")
        self.memory, self.ensemble, self.activation = memory, ensemble, activation()
        self.layers = len(sizes) - 1
        for i, (m, n) in enumerate(pairwise(sizes)):
            self.register_buffer(f"weight_{i}", torch.zeros(memory * ensemble, m, n))
            self.register_buffer(f"bias_{i}", torch.zeros(memory * ensemble, 1, n))
        self.register_buffer("readout", torch.zeros(memory * ensemble, sizes[-2], sizes[-1]))
        self.register_buffer("offset", torch.zeros(sizes[-1]))
        self.register_buffer("pushes", torch.zeros((), dtype=torch.long))
        # In float64: products of many decays.
        self.register_buffer("steps", torch.zeros(memory, dtype=torch.float64))
        self.register_buffer("decays", torch.ones(memory, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(memory, dtype=torch.float64))
        self.register_buffer("forgotten", torch.zeros((), dtype=torch.float64))

    def __len__(self) -> int:
        """Value functions on the stack."""
        return min(int(self.pushes), self.memory)

    @torch.no_grad()
    def push(self, networks: StackedMLP, step: float, decay: float) -> None:
        """Freeze a copy of ``networks`` as the newest value function; the oldest leaves a full stack.

        Args:
            networks: ``ensemble`` networks.
            step: ``alpha > 0``.
            decay: ``beta`` in [0, 1).

        Raises:
            DomainError: If a number is out of range.
            ShapeError: If the networks are not of the stack's shape.
        """
        if not (step > 0 and 0 <= decay < 1):
            raise DomainError(f"step must be positive and decay in [0, 1), got {step} and {decay}")
        self._check(networks)
        slot = int(self.pushes) % self.memory
        rows = slice(slot * self.ensemble, (slot + 1) * self.ensemble)
        for i, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
            self._layer("weight", i)[rows] = weight
            self._layer("bias", i)[rows] = bias
        self.steps[slot], self.decays[slot] = step, decay
        self.pushes += 1
        self._weigh(slot, decay)

    @torch.no_grad()
    def follow(self, x: Tensor, logits: Tensor, networks: StackedMLP, step: float, decay: float) -> Tensor:
        """``push``, and what the logits at ``x`` become: by the recursion, two value functions instead of ``memory``.

        Args:
            x: Inputs ``(batch, inputs)``.
            logits: The stack's there before the push.
            networks: As in ``push``.
            step: As in ``push``.
            decay: As in ``push``.

        Returns:
            Logits ``(batch, actions)``, equal to ``forward(x)`` up to rounding.
        """
        slot = int(self.pushes) % self.memory
        oldest = self.coefficients[slot] * self.values(slot, x)
        kept = decay * (1 - self.forgotten) * (logits - oldest)
        self.push(networks, step, decay)
        return (kept + step * self.values(slot, x)) / (1 - self.forgotten)

    @torch.no_grad()
    def values(self, slot: int, x: Tensor) -> Tensor:
        """The value function in one slot of the ring, unweighted: ``(batch, actions)``."""
        rows = slice(slot * self.ensemble, (slot + 1) * self.ensemble)
        weights, biases = ([self._layer(kind, i)[rows] for i in range(self.layers)] for kind in ("weight", "bias"))
        hidden = _hidden(x, weights[:-1], biases[:-1], self.activation)
        return torch.baddbmm(biases[-1], hidden, weights[-1]).mean(0)

    def _weigh(self, newest: int, decay: float) -> None:
        """Coefficients of the slots, and the output layer that has them."""
        filled = len(self)
        ages = (newest - torch.arange(self.memory)) % self.memory
        order = ages.argsort()
        since = self.decays[order].cumprod(0)
        # The newest term has not decayed; one that is i pushes old has by the decays of the last i pushes.
        decayed = torch.cat((torch.ones_like(since[:1]), since[:-1]))[ages]
        self.forgotten.copy_(since[filled - 1] * decay ** (self.memory - filled))
        kept = torch.where(ages.to(self.steps.device) < filled, self.steps * decayed, 0.0)
        self.coefficients.copy_(kept / (1 - self.forgotten))
        last = self.layers - 1
        per_network = (self.coefficients / self.ensemble).repeat_interleave(self.ensemble)[:, None, None]
        self.readout.copy_(per_network * self._layer("weight", last))
        self.offset.copy_((per_network * self._layer("bias", last)).sum((0, 1)))

    def _check(self, networks: StackedMLP) -> None:
        for i, weight in enumerate(networks.weights):
            expected = (self.ensemble, *self._layer("weight", i).shape[1:])
            if tuple(weight.shape) != expected:
                raise ShapeError(f"layer {i} of the networks has shape {tuple(weight.shape)}, the stack {expected}")

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, actions)`` at ``(batch, inputs)``; zero before the first push."""
        return torch.cat([self._logits(rows) for rows in x.split(_ROWS)])

    def _logits(self, x: Tensor) -> Tensor:
        filled = len(self) * self.ensemble
        if filled == 0:
            return self.offset.expand(len(x), -1)
        inner = range(self.layers - 1)
        weights, biases = ([self._layer(kind, i)[:filled] for i in inner] for kind in ("weight", "bias"))
        hidden = _hidden(x, weights, biases, self.activation)
        return torch.bmm(hidden, self.readout[:filled]).sum(0) + self.offset

    def _layer(self, kind: str, index: int) -> Tensor:
        """Weights or biases of one layer of all networks."""
        return cast(Tensor, getattr(self, f"{kind}_{index}"))


def _hidden(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: nn.Module) -> Tensor:
    """The last hidden layer of every network ``(count, batch, width)``; the input itself where there is none."""
    if not weights:
        raise ShapeError("a stack needs at least one hidden layer; give net_arch one width or more")
    hidden = x.expand(len(weights[0]), *x.shape)
    for weight, bias in zip(weights, biases, strict=True):
        hidden = activation(torch.baddbmm(bias, hidden, weight))
    return hidden
