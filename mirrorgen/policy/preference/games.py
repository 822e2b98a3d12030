"""Preference games: two policies propose answers, and ``P[i, j]`` is the probability that answer ``i`` beats ``j``.

The game is symmetric with value one half. With a reference policy and ``beta > 0`` its Nash equilibrium is unique.

Source: Munos et al., "Nash Learning from Human Feedback", 2023.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.geometry.divergences import kl
from mirrorgen.policy.preference.equilibrium import newton_equilibrium
from mirrorgen.policy.proximal import proximal_step

__all__ = ["PreferenceGame", "random_game", "sample_actions", "tournament_game"]


@dataclass(frozen=True)
class PreferenceGame:
    """A game with payoff ``V(p, q) = <p, P q> - beta KL(p || ref) + beta KL(q || ref)`` to its first player.

    Policies are log-probabilities ``(*batch, K)`` whose batch axes broadcast against those of the game.

    Args:
        preferences: ``P``, ``(*batch, K, K)`` with entries in ``[0, 1]`` and ``P + P^T = 1``.
        log_reference: ``log ref``, ``(*batch, K)``, finite and normalised; uniform if None.
        beta: Weight of the reference, at least 0.

    Raises:
        ShapeError: If ``P`` is not square, or the reference has another number of answers.
        DomainError: If an entry, the symmetry, the reference or ``beta`` is not as above.
    """

    preferences: Tensor
    log_reference: Tensor | None = None
    beta: float = 0.0

    def __post_init__(self) -> None:
        shape = self.preferences.shape
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ShapeError(f"preferences must be square, (*batch, K, K), got {tuple(shape)}")
        _check_preferences(self.preferences)
        if self.log_reference is None:
            uniform = torch.zeros_like(self.preferences[..., 0]).log_softmax(-1)
            object.__setattr__(self, "log_reference", uniform)
        elif self.log_reference.shape[-1:] != shape[-1:]:
            got = tuple(self.log_reference.shape)
            raise ShapeError(f"log_reference must be (*batch, {shape[-1]}) like the preferences, got {got}")
        elif not bool((self.log_reference.logsumexp(-1).abs() < 1e-5).all() & self.log_reference.isfinite().all()):
            raise DomainError("log_reference must be finite and normalised; pass it through log_softmax")
        if not 0 <= self.beta < float("inf"):
            raise DomainError(f"beta must be at least 0 and finite, got {self.beta}")

    @property
    def reference(self) -> Tensor:
        """``log ref``."""
        assert self.log_reference is not None
        return self.log_reference

    def win_rates(self, opponent: Tensor) -> Tensor:
        """``P(i > opponent) = sum_j P[i, j] opponent_j`` of every answer: one query of the oracle."""
        return (self.preferences @ opponent.exp().unsqueeze(-1)).squeeze(-1)

    def value(self, first: Tensor, second: Tensor) -> Tensor:
        """``P(first > second)``, the probability that an answer of one policy beats one of the other."""
        return (first.exp() * self.win_rates(second)).sum(-1)

    def regularised_value(self, first: Tensor, second: Tensor) -> Tensor:
        """``V(first, second)``, with both penalties; ``V(p, q) + V(q, p) = 1``."""
        penalty = kl(second, self.reference) - kl(first, self.reference)
        return self.value(first, second) + self.beta * penalty

    def best_response(self, opponent: Tensor) -> Tensor:
        """``argmax_p V(p, opponent) = ref exp(P(. > opponent) / beta)``, normalised.

        Raises:
            DomainError: If ``beta = 0``, where best responses are not unique.
        """
        self._regularised("a best response")
        return proximal_step(self.reference, self.win_rates(opponent), step_size=1 / self.beta)

    def duality_gap(self, policy: Tensor) -> Tensor:
        """``max_p V(p, policy) - min_q V(policy, q)``, zero at the equilibrium only.

        It is ``2 beta KL(policy || best response)``, a form without cancellation, and ``2 max_i P(i > policy) - 1``
        where ``beta = 0``.
        """
        if self.beta == 0:
            return 2 * self.win_rates(policy).amax(-1) - 1
        return 2 * self.beta * kl(policy, self.best_response(policy))

    def nash(self, *, tolerance: float = 1e-13, iterations: int = 200) -> Tensor:
        """The equilibrium, as log-probabilities in float64; see ``newton_equilibrium``.

        Args:
            tolerance: Largest norm of the residual of the equation, in units of preferences.
            iterations: Bound on the number of Newton steps.

        Returns:
            ``log pi``, ``(*batch, K)``.

        Raises:
            DomainError: If ``beta = 0``.
            ConvergenceError: If the bound is reached, with the residual.
        """
        self._regularised("a unique equilibrium")
        return newton_equilibrium(
            self.preferences, self.reference, self.beta, tolerance=tolerance, iterations=iterations
        )

    def compare(self, first: Tensor, second: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Whether answers ``first`` beat ``second``, drawn from the Bernoulli laws ``P[first, second]``.

        Args:
            first: Indices ``(*batch, n)``.
            second: Indices of the same shape.
            generator: Source of randomness.

        Returns:
            Bool ``(*batch, n)``.
        """
        size = self.preferences.shape[-1]
        flat = self.preferences.flatten(-2).expand(*first.shape[:-1], size * size)
        chance = flat.gather(-1, size * first + second)
        uniform = torch.rand(chance.shape, generator=generator, dtype=chance.dtype, device=chance.device)
        return uniform < chance

    def sample_pairs(
        self, first: Tensor, second: Tensor, n: int, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labelled pairs: ``n`` answers of each of two policies, and whether the first of each pair won.

        Returns:
            Indices and indices ``(*batch, n)``, and bool of that shape.
        """
        pair = [sample_actions(policy, n, generator=generator) for policy in (first, second)]
        return pair[0], pair[1], self.compare(*pair, generator=generator)

    def sampled_win_rates(self, opponent: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Unbiased estimate of ``win_rates``: the share of ``n`` comparisons that each answer wins, ``(*batch, K)``."""
        size = opponent.shape[-1]
        second = sample_actions(opponent, n * size, generator=generator)
        first = torch.arange(size, device=second.device).repeat_interleave(n).expand_as(second)
        won = self.compare(first, second, generator=generator)
        return won.unflatten(-1, (size, n)).to(opponent.dtype).mean(-1)

    def _regularised(self, what: str) -> None:
        if self.beta == 0:
            raise DomainError(f"{what} needs beta > 0, a weight of the reference; got a game with beta = 0")


def random_game(
    size: int, *, beta: float = 0.0, batch: tuple[int, ...] = (), generator: torch.Generator | None = None
) -> PreferenceGame:
    """Preferences uniform on ``[0, 1]``, a reference with normal logits, in float64."""
    return _instance(torch.rand(*batch, size, size, generator=generator, dtype=torch.float64), beta, generator)


def tournament_game(
    size: int, *, beta: float = 0.0, batch: tuple[int, ...] = (), generator: torch.Generator | None = None
) -> PreferenceGame:
    """A random tournament: of two answers one always wins, by a fair coin; a reference with normal logits."""
    chances = torch.rand(*batch, size, size, generator=generator, dtype=torch.float64)
    return _instance((chances < 0.5).double(), beta, generator)


def sample_actions(policy: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """``n`` draws of indices from log-probabilities ``(*batch, K)``, ``(*batch, n)``."""
    rows = policy.exp().reshape(-1, policy.shape[-1])
    return torch.multinomial(rows, n, replacement=True, generator=generator).reshape(*policy.shape[:-1], n)


def _instance(raw: Tensor, beta: float, generator: torch.Generator | None) -> PreferenceGame:
    upper = raw.triu(1)
    preferences = upper + (1 - raw.mT).tril(-1) + 0.5 * torch.eye(raw.shape[-1], dtype=raw.dtype)
    logits = torch.randn(raw.shape[:-1], generator=generator, dtype=raw.dtype)
    return PreferenceGame(preferences, logits.log_softmax(-1), beta)


def _check_preferences(preferences: Tensor) -> None:
    if not bool(((preferences >= 0) & (preferences <= 1)).all()):
        raise DomainError("preferences must lie in [0, 1]: they are probabilities of winning")
    excess = float((preferences + preferences.mT - 1).abs().max())
    if excess > 1e-6:
        raise DomainError(f"P + P^T must be 1, of two answers one wins; off by {excess:.1e}: use (P + 1 - P^T) / 2")
