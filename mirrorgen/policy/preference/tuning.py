"""Tuning of a language model with any of the losses: draw groups of answers, score them, take the loss."""

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError
from mirrorgen.policy.preference.group import asymre_loss, group_reinforce_loss
from mirrorgen.policy.preference.language import SCORES, CharacterPolicy, sample_answers
from mirrorgen.policy.preference.losses import (
    dno_loss,
    inpo_loss,
    ipo_loss,
    nash_md_loss,
    opmd_loss,
    rebel_loss,
)

__all__ = ["OBJECTIVES", "Group", "PreferenceTuning"]


class Group(NamedTuple):
    """Answers to prompts: log-probabilities and scores ``(prompts, group)``, and settings of the loss.

    ``wins`` holds the outcome of comparisons of neighbours or its probability, ``(prompts, group / 2)``.
    """

    log_policy: Tensor
    log_anchor: Tensor
    log_reference: Tensor
    scores: Tensor
    wins: Tensor
    step_size: float
    beta: float

    def pairs(self, values: Tensor) -> Tensor:
        """Neighbours as pairs, ``(prompts, group / 2, 2)``."""
        return values.unflatten(-1, (-1, 2))


def _pairwise(loss: Callable[..., Tensor]) -> Callable[[Group], Tensor]:
    return lambda g: loss(g.pairs(g.log_policy), g.pairs(g.log_anchor), g.pairs(g.scores), step_size=g.step_size)


def _inpo(group: Group, *logs: Tensor) -> Tensor:
    policy, anchor, reference = logs
    return inpo_loss(policy, anchor, reference, group.wins, step_size=group.step_size, beta=group.beta)


OBJECTIVES: dict[str, Callable[[Group], Tensor]] = {
    "rebel": _pairwise(rebel_loss),
    "dno": _pairwise(dno_loss),
    "opmd": lambda g: opmd_loss(g.log_policy, g.log_anchor, g.scores, temperature=1 / g.step_size),
    "reinforce": lambda g: group_reinforce_loss(g.log_policy, g.scores),
    "kimi": lambda g: group_reinforce_loss(g.log_policy, g.scores, log_old=g.log_anchor, penalty=1 / g.step_size),
    "clipped": lambda g: group_reinforce_loss(g.log_policy, g.scores, log_old=g.log_anchor, clip=(0.2, 0.2)),
    "asymre": lambda g: asymre_loss(g.log_policy, g.scores),
    "ipo": lambda g: ipo_loss(g.pairs(g.log_policy), g.pairs(g.log_reference), g.wins, beta=g.beta),
    "inpo": lambda g: _inpo(g, g.pairs(g.log_policy), g.pairs(g.log_anchor), g.pairs(g.log_reference)),
    "nash_md": lambda g: nash_md_loss(
        g.pairs(g.log_policy)[..., 0], g.pairs(g.log_reference)[..., 0], g.wins, beta=g.beta
    ),
}
"""Losses by name."""


class PreferenceTuning(nn.Module):
    """A policy, the snapshot that answers come from, and a frozen reference, with a ``loss`` on prompts.

    Rewards are scores. Of two answers the first wins with probability ``sigmoid(sharpness (score - other score))``;
    losses on preferences see this number, or a label drawn from it. In ``"nash_md"`` the second answers come from the
    mixture with the reference, of weight ``mixture``, and the first from the policy as it is.

    With ``anchor="reference"`` reward losses fit ``ref exp(score / beta)`` from answers of whichever policy; with
    ``"old"`` they take steps of size ``step_size`` from the snapshot, a new one at every refresh.

    Args:
        policy: The policy, tuned in place; its state now is the reference.
        objective: A key of ``OBJECTIVES``.
        score: A key of ``SCORES``.
        group_size: Answers per prompt, even.
        refresh: Losses between two snapshots of the policy.
        anchor: What reward losses start from.
        step_size: ``eta`` of a step from the snapshot.
        beta: Weight of the reference.
        sharpness: Of preferences between scores.
        labels: Whether losses see labels 0 and 1, which are noisier, in place of probabilities of winning.
        mixture: Weight of the reference among opponents of ``"nash_md"``.

    Raises:
        DomainError: If a name is unknown, the group is odd, or ``beta`` is not positive.
    """

    calls: Tensor

    def __init__(
        self,
        policy: CharacterPolicy,
        objective: str = "opmd",
        score: str = "letter",
        group_size: int = 8,
        refresh: int = 10,
        anchor: Literal["reference", "old"] = "reference",
        step_size: float = 5.0,
        beta: float = 0.03,
        sharpness: float = 4.0,
        labels: bool = False,
        mixture: float = 0.125,
    ) -> None:
        super().__init__()
        for name, value, known in (("objective", objective, OBJECTIVES), ("score", score, SCORES)):
            if value not in known:
                raise DomainError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if anchor not in ("reference", "old"):
            raise DomainError(f"anchor must be 'reference' or 'old', got {anchor!r}")
        if group_size < 2 or group_size % 2 or refresh < 1 or not beta > 0:
            raise DomainError("group_size must be even and at least 2, refresh at least 1, beta positive")
        self.objective, self.score, self.anchor = objective, score, anchor
        self.group_size, self.refresh, self.sharpness, self.mixture = group_size, refresh, sharpness, mixture
        self.step_size, self.beta, self.labels = step_size, beta, labels
        self.policy = policy
        self.old, self.reference = (copy.deepcopy(policy).requires_grad_(False) for _ in range(2))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def loss(self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """The mean loss over groups of fresh answers to prompts ``x (n, time)``; snapshots are taken while training."""
        if self.training:
            every = 1 if self.objective == "nash_md" else self.refresh
            if int(self.calls) % every == 0:
                self.old.load_state_dict(self.policy.state_dict())
            self.calls += 1
        return OBJECTIVES[self.objective](self.group(x, generator=generator)).mean()

    def group(self, prompts: Tensor, *, generator: torch.Generator | None = None) -> Group:
        """Answers of the snapshot to every prompt, scored and compared."""
        repeated = prompts.repeat_interleave(self.group_size, 0)
        answers = sample_answers(self.old, repeated, generator=generator)
        if self.objective == "nash_md":
            options = {"reference": self.reference, "weight": self.mixture, "generator": generator}
            answers[1::2] = sample_answers(self.old, repeated[1::2], **options)  # type: ignore[arg-type]
        scores = SCORES[self.score](repeated, answers, self.policy.alphabet)
        wins = torch.sigmoid(self.sharpness * (scores[::2] - scores[1::2]))
        if self.labels:
            wins = torch.bernoulli(wins, generator=generator)
        with torch.no_grad():
            reference = self.reference.log_prob(repeated, answers)
            old = self.old.log_prob(repeated, answers)
        anchored = self.anchor == "reference" and self.objective != "inpo"
        rows = (self.policy.log_prob(repeated, answers), reference if anchored else old, reference, scores, wins)
        policy, anchor, reference, scores, wins = (v.unflatten(0, (len(prompts), -1)) for v in rows)
        return Group(policy, anchor, reference, scores, wins, 1 / self.beta if anchored else self.step_size, self.beta)

    @torch.no_grad()
    def evaluate(self, prompts: Tensor, *, generator: torch.Generator | None = None) -> dict[str, float]:
        """Of fresh answers: mean ``score``, ``win_rate`` over answers of the reference, ``kl`` to it in nats."""
        answers = sample_answers(self.policy, prompts, generator=generator)
        others = sample_answers(self.reference, prompts, generator=generator)
        score, other = (SCORES[self.score](prompts, a, self.policy.alphabet) for a in (answers, others))
        log_ratio = self.policy.log_prob(prompts, answers) - self.reference.log_prob(prompts, answers)
        means = {"score": score, "win_rate": torch.sigmoid(self.sharpness * (score - other)), "kl": log_ratio}
        return {name: float(value.mean()) for name, value in means.items()}
