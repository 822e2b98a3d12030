"""The compiled games against plain recursion over histories, known values, and malformed rules."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.games import (
    CHANCE,
    TERMINAL,
    ExtensiveGame,
    GameState,
    LiarsDice,
    Poker,
    compile_game,
    kuhn_poker,
    leduc_poker,
    liars_dice,
)

F64 = torch.float64
ROOTS = {"kuhn": Poker(3), "leduc": Poker(3, 2, (2, 4), 2, merge_suits=True), "dice": LiarsDice(3)}
game = cache(lambda name: compile_game(ROOTS[name]))


def random_policy(game: ExtensiveGame, seed: int = 0) -> Tensor:
    noise = torch.randn(game.mask.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return torch.where(game.mask, noise, -torch.inf).log_softmax(-1)


def moves(game: ExtensiveGame, state: GameState, log_policy: Tensor):
    """Actions and probabilities."""
    if state.player == CHANCE:
        return zip(state.actions, state.chances, strict=True)
    row = game.index(state.player, state.infoset)
    return zip(state.actions, log_policy[row].exp().tolist(), strict=False)


def walk(game, state, log_policy, reaches=(1.0, 1.0, 1.0), sums=None):
    """Expected payoff by recursion; ``sums`` collects reach-weighted values of actions and reach."""
    if state.player == TERMINAL:
        return state.payoff
    value, who = 0.0, state.player
    for i, (action, p) in enumerate(moves(game, state, log_policy)):
        after = walk(
            game,
            state.child(action),
            log_policy,
            tuple(r * (p if k == who else 1) for k, r in zip((0, 1, CHANCE), reaches, strict=True)),
            sums,
        )
        value += p * after
        if sums is not None and who != CHANCE:
            row, weight = game.index(who, state.infoset), reaches[0] * reaches[1] * reaches[2]
            sums[0][row, i] += weight * after * (1 if who == 0 else -1)
            sums[1][row, i] += weight
    return value


@pytest.mark.parametrize("name", ROOTS)
def test_values_agree_with_recursion(name):
    compiled, logs = game(name), random_policy(game(name))
    sums = torch.zeros(2, *compiled.mask.shape, dtype=F64)
    value = walk(compiled, ROOTS[name], logs, sums=sums)
    assert float(compiled.value(logs)) == pytest.approx(value, abs=1e-12)
    expected = torch.where(compiled.mask, sums[0] / sums[1], 0.0)
    assert torch.allclose(torch.where(compiled.mask, compiled.action_values(logs), 0.0), expected, atol=1e-10)


@pytest.mark.parametrize("name", ["kuhn", "dice"])
def test_best_response_beats_every_pure_policy_and_is_reached(name):
    compiled, logs = game(name), random_policy(game(name))
    best = compiled.best_response_values(logs)
    # A long policy iteration on exact values: greedy at all infosets of one player, bottom up by repetition.
    for player in (0, 1):
        mine, reply = (compiled.owner == player).unsqueeze(-1), logs
        for _ in range(8):
            greedy = torch.where(compiled.mask, compiled.action_values(reply), -torch.inf).argmax(-1, keepdim=True)
            pure = torch.full_like(logs, -torch.inf).scatter(-1, greedy, 0.0)
            # Nearly pure: infosets that it does not lead to keep their values.
            reply = torch.where(mine, torch.logaddexp(pure, logs - 60), logs).log_softmax(-1)
        value = float(compiled.value(reply)) * (1 if player == 0 else -1)
        assert value == pytest.approx(float(best[player]), abs=1e-9)
    assert float(compiled.exploitability(logs)) > 0


@pytest.mark.parametrize("name", ROOTS)
def test_plans_and_batches(name):
    compiled = game(name)
    logs = torch.stack([random_policy(compiled, s) for s in range(4)]).unflatten(0, (2, 2))
    plan = compiled.plan(logs)
    assert plan.shape == (2, 2, compiled.num_sequences)
    assert torch.allclose(compiled.policy(plan), logs, atol=1e-12)
    for function in (compiled.value, compiled.exploitability, compiled.action_values):
        assert torch.allclose(function(logs)[1, 0], function(logs[1, 0]), atol=1e-14)
    # Plans may be averaged: the value is bilinear in them.
    mixed = compiled.policy(plan.mean((0, 1)))
    first = torch.where((compiled.owner == 0).unsqueeze(-1), mixed, logs[0, 0])
    parts = torch.where((compiled.owner == 0).unsqueeze(-1), logs, logs[0, 0])
    assert float(compiled.value(first)) == pytest.approx(float(compiled.value(parts).mean()), abs=1e-12)


def test_known_sizes_and_values():
    kuhn, leduc, dice = kuhn_poker(), leduc_poker(), liars_dice()
    assert (kuhn.num_infosets, leduc.num_infosets, dice.num_infosets) == (12, 936, 1024)
    # The equilibria of Kuhn's poker, one for every probability of a bluff with the lowest card up to 1/3.
    for bluff in (0.0, 0.2, 1 / 3):
        logs = torch.zeros(12, 2, dtype=F64)
        bets = {
            (0, "0:"): bluff, (0, "1:"): 0.0, (0, "2:"): 3 * bluff,
            (0, "0:cr"): 0.0, (0, "1:cr"): bluff + 1 / 3, (0, "2:cr"): 1.0,
            (1, "0:c"): 1 / 3, (1, "1:c"): 0.0, (1, "2:c"): 1.0,
            (1, "0:r"): 0.0, (1, "1:r"): 1 / 3, (1, "2:r"): 1.0,
        }  # fmt: skip
        for (player, key), p in bets.items():
            logs[kuhn.index(player, key)] = torch.tensor([1 - p, p], dtype=F64).log()
        assert float(kuhn.value(logs)) == pytest.approx(-1 / 18, abs=1e-15)
        assert float(kuhn.exploitability(logs)) == pytest.approx(0.0, abs=1e-15)
    assert float(kuhn.exploitability(kuhn.uniform())) == pytest.approx(11 / 24)
    assert float(leduc.exploitability(leduc.uniform())) == pytest.approx(2.3736111, abs=1e-7)
    merged = game("leduc")
    assert merged.num_infosets == 288
    assert float(merged.exploitability(merged.uniform())) == pytest.approx(2.3736111, abs=1e-7)


def test_unreachable_infosets_have_finite_values():
    kuhn = kuhn_poker()
    logs = kuhn.uniform().clone()
    for card in range(3):
        logs[kuhn.index(0, f"{card}:")] = torch.tensor([0.0, -torch.inf], dtype=F64)
    values = kuhn.action_values(logs)
    assert bool(torch.isfinite(values).all())
    assert torch.equal(values[kuhn.index(1, "0:r")], torch.zeros(2, dtype=F64))
    assert bool(torch.isfinite(kuhn.policy(kuhn.plan(logs)).logsumexp(-1)).all())


def test_derivative_of_the_value_is_reach_times_advantage():
    kuhn, logs = kuhn_poker(), random_policy(kuhn_poker()).requires_grad_()
    (found,) = torch.autograd.grad(kuhn.value(logs.log_softmax(-1)), logs)
    with torch.no_grad():
        q, plan = kuhn.action_values(logs), kuhn.plan(logs)
        advantage = q - (logs.exp() * q).sum(-1, keepdim=True)
        weight = kuhn.gradients(plan)[1] * plan[kuhn.parent] * (1 - 2 * kuhn.owner)
    assert torch.allclose(found, weight.unsqueeze(-1) * logs.exp() * advantage, atol=1e-14)


@dataclass(frozen=True)
class Toy:
    """Rules by table: histories to (player, actions, infoset or payoff)."""

    table: dict
    line: str = ""

    player = property(lambda s: s.table[s.line][0])
    actions = property(lambda s: s.table[s.line][1])
    infoset = property(lambda s: s.table[s.line][2])
    payoff = property(lambda s: s.table[s.line][2])
    chances = property(lambda s: s.table[s.line][2])

    def child(self, action):
        return Toy(self.table, self.line + action)


END = (TERMINAL, "", 1.0)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"": (2, "a", "I"), "a": END}, "only two may play"),
        ({"": (0, "", "I")}, "no legal action"),
        ({"": (0, "a", "I"), "a": (TERMINAL, "", float("nan"))}, "payoffs must be finite"),
        ({"": (CHANCE, "ab", (0.5, 0.6)), "a": END, "b": END}, "sum to 1"),
        ({"": (0, "ab", "I"), "a": (1, "cd", "J"), "b": (1, "c", "J"), "bc": END, "ac": END, "ad": END}, "differ"),
        ({"": (0, "ab", "I"), "a": (0, "c", "J"), "b": (0, "c", "J"), "ac": END, "bc": END}, "forgets"),
        ({"": END}, "no player moves"),
    ],
)
def test_malformed_rules(table, match):
    with pytest.raises(DomainError, match=match):
        compile_game(Toy(table))


def test_bad_input():
    with pytest.raises(DomainError, match="max_nodes"):
        compile_game(Poker(3), max_nodes=20)
    with pytest.raises(DomainError, match="no infoset"):
        kuhn_poker().index(0, "7:")
    with pytest.raises(ShapeError, match="12, 2"):
        kuhn_poker().plan(torch.zeros(12, 3, dtype=F64))
    with pytest.raises(ShapeError, match="float64"):
        kuhn_poker().plan(torch.zeros(12, 2))
    with pytest.raises(DomainError, match="cards"):
        kuhn_poker(1)
    with pytest.raises(DomainError, match="side"):
        liars_dice(0)
