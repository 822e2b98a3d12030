"""Search is an update; draws of plays agree with exact values; games of other libraries."""

from types import SimpleNamespace

import pytest
import torch

from mirrorgen.errors import DomainError, MissingExtraError
from mirrorgen.policy.games import (
    MagneticMirrorDescent,
    State,
    compile_game,
    from_openspiel,
    kuhn_poker,
    leduc_poker,
    liars_dice,
    mirror_descent_search,
    sampled_values,
)
from mirrorgen.policy.games.rules import CHANCE, TERMINAL

F64 = torch.float64


def random_policy(game, seed=0):
    noise = torch.randn(game.mask.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return torch.where(game.mask, noise, -torch.inf).log_softmax(-1)


@pytest.mark.parametrize("make", [kuhn_poker, lambda: leduc_poker(merge_suits=True)])
def test_search_everywhere_is_one_step_of_mirror_descent(make):
    game = make()
    blueprint, magnet = random_policy(game), random_policy(game, 1)
    searched = mirror_descent_search(
        game, blueprint, torch.arange(game.num_infosets), step_size=0.3, magnet=magnet, magnet_weight=0.2
    )
    step = MagneticMirrorDescent(0.3, 0.2, floor=0.0).step(game, State(blueprint, magnet, blueprint))
    assert torch.equal(searched, step.log_policy)
    some = torch.tensor([7, 2])
    part = mirror_descent_search(game, blueprint, some, step_size=0.3, magnet=magnet, magnet_weight=0.2)
    assert torch.allclose(part, searched[some], atol=1e-15)


@pytest.mark.parametrize("make", [kuhn_poker, lambda: liars_dice(3)])
def test_sampled_values_are_unbiased(make):
    game, generator = make(), torch.Generator().manual_seed(3)
    logs, rows = random_policy(make()), torch.arange(0, make().num_infosets, 2)
    draws = torch.stack([sampled_values(game, logs, rows, 50, generator=generator) for _ in range(25)])
    error = draws.mean(0) - torch.where(game.mask, game.action_values(logs), 0.0)[rows]
    # At most 4.5 standard errors, of at least those of a rare event.
    assert bool((error.abs() <= 4.5 * (draws.std(0) / 5).clamp_min(4e-3)).all())


def test_play_from_the_start_has_the_expected_payoff():
    game = leduc_poker()
    logs = random_policy(game)
    start = torch.zeros(40_000, dtype=torch.long)
    payoffs = game.histories.payoff[game.histories.play(start, logs, generator=torch.Generator().manual_seed(0))]
    assert abs(float(payoffs.mean() - game.value(logs))) < 4 * float(payoffs.std()) / 200


def test_search_improves_a_uniform_blueprint():
    game, generator = leduc_poker(), torch.Generator().manual_seed(0)
    rows = torch.arange(game.num_infosets)
    before = float(game.exploitability(game.uniform()))
    options = {"step_size": 0.3, "magnet_weight": 0.05, "generator": generator}
    after = [
        float(game.exploitability(mirror_descent_search(game, game.uniform(), rows, num_particles=n, **options)))
        for n in (10, None)
    ]
    assert max(after) < 0.8 * before
    with pytest.raises(DomainError, match="num_particles"):
        mirror_descent_search(game, game.uniform(), rows, num_particles=0, **options)


def name(value):
    return SimpleNamespace(name=value)


class FakeSpiel:
    """A ``pyspiel.Game`` around our own rules."""

    def __init__(self, root, utility="ZERO_SUM", dynamics="SEQUENTIAL", chance="EXPLICIT_STOCHASTIC", players=2):
        self.root, self.players = root, players
        self.type = SimpleNamespace(
            short_name="fake", utility=name(utility), dynamics=name(dynamics), chance_mode=name(chance)
        )

    def get_type(self):
        return self.type

    def num_players(self):
        return self.players

    def new_initial_state(self):
        return FakeState(self.root)


class FakeState:
    """A ``pyspiel.State``: actions are numbers."""

    def __init__(self, state):
        self.s = state

    def is_terminal(self):
        return self.s.player == TERMINAL

    def is_chance_node(self):
        return self.s.player == CHANCE

    def current_player(self):
        return self.s.player

    def legal_actions(self):
        assert self.s.player >= 0
        return list(range(len(self.s.actions)))

    def chance_outcomes(self):
        return list(enumerate(self.s.chances))

    def information_state_string(self, player):
        assert player == self.s.player
        return self.s.infoset

    def returns(self):
        return [self.s.payoff, -self.s.payoff]

    def child(self, action):
        return FakeState(self.s.child(self.s.actions[action]))


def test_openspiel_games():
    from mirrorgen.policy.games import LiarsDice

    ours, theirs = compile_game(LiarsDice(3)), from_openspiel(FakeSpiel(LiarsDice(3)))
    logs = random_policy(ours)
    assert torch.equal(ours.action_values(logs), theirs.action_values(logs))
    assert ours.keys == theirs.keys


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"players": 3}, "two-player"),
        ({"utility": "GENERAL_SUM"}, "zero-sum"),
        ({"dynamics": "SIMULTANEOUS"}, "convert_to_turn_based"),
        ({"chance": "SAMPLED_STOCHASTIC"}, "probabilities of chance"),
    ],
)
def test_games_of_other_kinds(options, match):
    with pytest.raises(DomainError, match=match):
        from_openspiel(FakeSpiel(None, **options))


def test_openspiel_itself(monkeypatch):
    try:
        import pyspiel
    except ImportError:
        with pytest.raises(MissingExtraError, match="open_spiel"):
            from_openspiel("kuhn_poker")
        return
    assert pyspiel.load_game("leduc_poker").num_players() == 2
    for title, ours in (("leduc_poker", leduc_poker()), ("liars_dice(dice_sides=4)", liars_dice())):
        theirs = from_openspiel(title)
        assert theirs.mask.shape == ours.mask.shape
        assert float(theirs.exploitability(theirs.uniform())) == pytest.approx(
            float(ours.exploitability(ours.uniform())), abs=1e-12
        )
