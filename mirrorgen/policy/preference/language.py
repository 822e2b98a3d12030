"""A small language model over characters and scores of its answers: where the losses can be watched within a minute."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.preference.games import sample_actions
from mirrorgen.policy.proximal import geometric_mixture

__all__ = ["SCORES", "CharacterPolicy", "bracket_score", "letter_score", "sample_answers", "sequence_log_prob"]


def sequence_log_prob(logits: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """``sum_t m_t log softmax(logits_t)[tokens_t]``: summed over an answer, as the losses expect, never averaged.

    Args:
        logits: ``(*batch, time, vocabulary)``, of the distribution that token ``t`` itself is drawn from.
        tokens: Indices ``(*batch, time)``.
        mask: What belongs to the answer, ``(*batch, time)``; all of it if None.

    Returns:
        ``(*batch)``.

    Raises:
        ShapeError: If shapes do not fit.
    """
    if logits.shape[:-1] != tokens.shape or (mask is not None and mask.shape != tokens.shape):
        raise ShapeError(
            f"logits need the shape of the tokens and one axis more, the mask that of the tokens; got "
            f"{tuple(logits.shape)}, {tuple(tokens.shape)}{'' if mask is None else f', {tuple(mask.shape)}'}"
        )
    chosen = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return (chosen if mask is None else torch.where(mask.bool(), chosen, 0.0)).sum(-1)


class CharacterPolicy(nn.Module):
    """A recurrent network that answers a prompt with ``length`` characters; before training all answers are as likely.

    Args:
        alphabet: The characters.
        length: Of an answer.
        width: Of the recurrent state.

    Raises:
        DomainError: If characters repeat, or there are fewer than two.
    """

    def __init__(self, alphabet: str = "abcdefgh", length: int = 12, width: int = 64) -> None:
        super().__init__()
        if len(set(alphabet)) != len(alphabet) or len(alphabet) < 2:
            raise DomainError(f"alphabet must be two or more different characters, got {alphabet!r}")
        self.alphabet, self.length, self.width = alphabet, length, width
        self.embedding = nn.Embedding(len(alphabet), width)
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, len(alphabet))
        # A uniform policy to start from makes equilibria computable by counting.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def log_prob(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """``log pi(answer | prompt)`` of indices ``(n, prompt)`` and ``(n, length)``, ``(n)``."""
        read = torch.cat([prompts, answers[:, :-1]], -1)
        hidden, _ = self.recurrent(self.embedding(read))
        return sequence_log_prob(self.head(hidden[:, prompts.shape[-1] - 1 :]), answers)

    def next_logits(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits ``(n, vocabulary)`` of what follows ``tokens (n, time)``, and the state after reading them."""
        hidden, state = self.recurrent(self.embedding(tokens), state)
        return self.head(hidden[:, -1]), state

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Indices ``(n, time)`` of strings of one length."""
        try:
            return torch.tensor([[self.alphabet.index(c) for c in text] for text in texts])
        except ValueError as error:
            raise DomainError(f"texts must be of one length and of characters in {self.alphabet!r}") from error

    def decode(self, tokens: Tensor) -> list[str]:
        """Strings of indices ``(n, time)``."""
        return ["".join(self.alphabet[i] for i in row) for row in tokens.tolist()]


@torch.no_grad()
def sample_answers(
    policy: CharacterPolicy,
    prompts: Tensor,
    *,
    reference: CharacterPolicy | None = None,
    weight: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Answers ``(n, length)``, of the policy or of its geometric mixture with a reference, character by character.

    The mixture of next characters, ``pi^(1 - weight) ref^weight`` normalised at each, is what Nash-MD samples in place
    of the mixture of whole answers, which has no such factors.

    Args:
        policy: The policy.
        prompts: Indices ``(n, time)``.
        reference: The reference; without it ``weight`` is not used.
        weight: Of the reference, in ``[0, 1]``.
        generator: Source of randomness.
    """
    nets = [policy] if reference is None else [policy, reference]
    states: list[Tensor | None] = [None] * len(nets)
    last, answer = prompts, []
    for _ in range(policy.length):
        logs = []
        for i, net in enumerate(nets):
            logits, states[i] = net.next_logits(last, states[i])
            logs.append(logits.log_softmax(-1))
        mixed = logs[0] if reference is None else geometric_mixture(logs[0], logs[1], weight)
        last = sample_actions(mixed, 1, generator=generator)
        answer.append(last)
    return torch.cat(answer, -1)


def letter_score(prompts: Tensor, answers: Tensor, alphabet: str) -> Tensor:
    """Share of an answer that is the last character of its prompt."""
    return (answers == prompts[:, -1:]).to(torch.get_default_dtype()).mean(-1)


def bracket_score(prompts: Tensor, answers: Tensor, alphabet: str) -> Tensor:
    """Share of an answer that lies in matched pairs of ``(`` and ``)``.

    Raises:
        DomainError: If the alphabet lacks a bracket.
    """
    if not {"(", ")"} <= set(alphabet):
        raise DomainError(f"a score of brackets needs '(' and ')' in the alphabet, got {alphabet!r}")
    opening, closing = (answers == alphabet.index(c) for c in "()")
    depth = torch.zeros(len(answers), dtype=torch.long, device=answers.device)
    pairs = torch.zeros_like(depth)
    for t in range(answers.shape[-1]):
        closes = closing[:, t] & (depth > 0)
        pairs = pairs + closes
        depth = depth + opening[:, t].long() - closes.long()
    return 2 * pairs.to(torch.get_default_dtype()) / answers.shape[-1]


SCORES: dict[str, Callable[[Tensor, Tensor, str], Tensor]] = {"letter": letter_score, "brackets": bracket_score}
"""Scores of answers by name: ``(prompts, answers, alphabet)`` to ``(n)`` in ``[0, 1]``."""
