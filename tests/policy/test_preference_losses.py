"""Losses on preferences: exact minimisers, one-step gradients, the three-armed counterexample, options, bad input."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy import preference as pref
from mirrorgen.policy import proximal_step

F64 = torch.float64
SIZE = 6


def policies(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).log_softmax(-1)


def pairs(values: Tensor) -> Tensor:
    """All ordered pairs ``(K, K, 2)`` of ``values (K)``."""
    return torch.stack(torch.broadcast_tensors(values.unsqueeze(-1), values), -1)


def minimiser(loss: Callable[[Tensor], Tensor], size: int = SIZE) -> Tensor:
    """The log-policy with the smallest ``loss``, over logits, by a quasi-Newton method in float64."""
    logits = torch.zeros(size, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits.log_softmax(-1))
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().log_softmax(-1)


OLD, REFERENCE, REWARDS = policies(SIZE), policies(SIZE, seed=1), torch.linspace(-1, 1, SIZE, dtype=F64).sin()
ETA = 0.7
BEHAVIOUR = policies(SIZE, seed=2).exp()
PAIR_WEIGHTS = torch.outer(BEHAVIOUR, BEHAVIOUR)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p: (PAIR_WEIGHTS * pref.rebel_loss(pairs(p), pairs(OLD), pairs(REWARDS), step_size=ETA)).sum(),
        lambda p: (PAIR_WEIGHTS * pref.dno_loss(pairs(p), pairs(OLD), pairs(REWARDS), step_size=ETA)).sum(),
        lambda p: pref.opmd_loss(p, OLD, REWARDS, temperature=1 / ETA),
    ],
    ids=["rebel", "dno", "opmd"],
)
def test_reward_losses_are_smallest_at_the_proximal_step(loss):
    # Whatever policy the pairs come from.
    assert float((minimiser(loss) - proximal_step(OLD, REWARDS, step_size=ETA)).abs().max()) < 1e-7


def preference_loss(game: pref.PreferenceGame, behaviour: Tensor, loss: Callable[[Tensor, Tensor], Tensor]):
    """The expectation of a loss over pairs of two answers of ``behaviour`` and their labels."""
    weights = torch.outer(behaviour.exp(), behaviour.exp())
    won, lost = (torch.full_like(game.preferences, label) for label in (1.0, 0.0))
    return lambda p: (
        weights * (game.preferences * loss(pairs(p), won) + (1 - game.preferences) * loss(pairs(p), lost))
    ).sum()


def test_preference_losses_are_smallest_at_the_steps_of_the_game():
    game = pref.random_game(SIZE, beta=0.3, generator=torch.Generator().manual_seed(4))
    reference = pairs(game.reference)
    g = game.win_rates(OLD)

    onpo = preference_loss(game, OLD, lambda p, y: pref.onpo_loss(p, pairs(REFERENCE), y, step_size=ETA))
    assert float((minimiser(onpo) - proximal_step(REFERENCE, g, step_size=ETA)).abs().max()) < 1e-7

    ipo = preference_loss(game, OLD, lambda p, y: pref.ipo_loss(p, reference, y, beta=0.3))
    assert float((minimiser(ipo) - game.best_response(OLD)).abs().max()) < 1e-7

    learner = pref.MirrorDescent(ETA, linear=True)
    options = {"step_size": ETA, "beta": 0.3}
    inpo = preference_loss(game, OLD, lambda p, y: pref.inpo_loss(p, pairs(OLD), reference, y, **options))
    assert float((minimiser(inpo) - learner.step(game, learner.init(game, OLD)).policy).abs().max()) < 1e-7

    exact = pref.MirrorDescent(ETA)
    options["step_size"] = ETA / (1 + 0.3 * ETA)
    inpo = preference_loss(game, OLD, lambda p, y: pref.inpo_loss(p, pairs(OLD), reference, y, **options))
    assert float((minimiser(inpo) - exact.step(game, exact.init(game, OLD)).policy).abs().max()) < 1e-7


def test_soft_preferences_are_expectations_over_labels():
    p, anchor = policies(5, 2), policies(5, 2, seed=1)
    chance = torch.rand(5, generator=torch.Generator().manual_seed(0), dtype=F64)
    loss = lambda y: pref.squared_preference_loss(p, anchor, y, step_size=ETA)  # noqa: E731
    one, zero = torch.ones(5, dtype=F64), torch.zeros(5, dtype=F64)
    assert torch.allclose(loss(chance), chance * loss(one) + (1 - chance) * loss(zero))
    swapped = pref.squared_preference_loss(p.flip(-1), anchor.flip(-1), 1 - chance, step_size=ETA)
    assert torch.allclose(loss(chance), swapped)


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """With respect to the logits of a policy over ``SIZE`` answers."""
    logits = at.clone().requires_grad_()
    return torch.autograd.grad(loss(logits.log_softmax(-1)), logits)[0]


def test_one_step_gradients_are_group_relative_reinforce():
    answers = torch.tensor([0, 3, 3, 5, 1])
    rewards, old = REWARDS[answers], OLD[answers]
    plain = gradient(lambda p: pref.group_reinforce_loss(p[answers], rewards), OLD)
    assert float(plain.abs().max()) > 0.01
    tau = 0.3
    opmd = gradient(lambda p: pref.opmd_loss(p[answers], old, rewards, temperature=tau), OLD)
    assert torch.allclose(opmd, 2 * tau * plain, atol=1e-14)
    kimi = gradient(
        lambda p: pref.group_reinforce_loss(p[answers], rewards, log_old=old, penalty=tau, clip=(0.2, 0.2)), OLD
    )
    assert torch.allclose(kimi, plain, atol=1e-14)
    pair = answers[1:4:2]
    two = gradient(lambda p: pref.group_reinforce_loss(p[pair], REWARDS[pair]), OLD)
    rebel = gradient(lambda p: pref.rebel_loss(p[pair], OLD[pair], REWARDS[pair], step_size=ETA), OLD)
    assert torch.allclose(rebel, 8 * ETA * two, atol=1e-14)
    dno = gradient(lambda p: pref.dno_loss(p[pair], OLD[pair], REWARDS[pair], step_size=ETA), OLD)
    # The logistic slope at zero in place of the square's.
    expected = (REWARDS[pair[0]] - REWARDS[pair[1]]).sigmoid() - 0.5
    assert torch.allclose(dno, expected / (ETA * 0.25 * (REWARDS[pair[0]] - REWARDS[pair[1]])) * two, atol=1e-14)


def test_kimi_loss_on_all_answers_is_smallest_near_the_step():
    # mean_i [-A log(pi / old) + tau / 2 log(pi / old)^2] has its minimum where log(pi / old) = A / tau, up to the
    # normalisation, which is of second order in A / tau.
    small = 1e-3 * REWARDS
    loss = lambda p: pref.group_reinforce_loss(p, small, log_old=OLD, penalty=1.0)  # noqa: E731
    step = proximal_step(OLD, small, step_size=1.0)
    assert float((minimiser(loss) - step).abs().max()) < 2e-3


def test_asymmetric_reinforce_adds_a_divergence():
    at = policies(SIZE, seed=5)

    counts = torch.tensor([3, 1, 2, 1, 2, 1])
    group = torch.arange(SIZE).repeat_interleave(counts)
    behaviour = (counts.to(F64) / len(group)).log()

    def loss(offset: float) -> Callable[[Tensor], Tensor]:
        return lambda p: pref.asymre_loss(p[group], REWARDS[group], offset=offset)

    difference = gradient(loss(-0.2), at) - gradient(loss(0.0), at)
    divergence = gradient(lambda p: (behaviour.exp() * (behaviour - p)).sum(), at)
    assert torch.allclose(difference, 0.2 * divergence, atol=1e-14)


def test_nash_md_gradient_is_that_of_the_regularised_win_rate():
    game = pref.random_game(SIZE, beta=0.3, generator=torch.Generator().manual_seed(4))
    rates = game.win_rates(REFERENCE)

    def objective(p: Tensor) -> Tensor:
        return (p.exp() * (rates - 0.3 * (p - game.reference))).sum()

    def loss(p: Tensor) -> Tensor:
        return (OLD.exp() * pref.nash_md_loss(p, game.reference, rates, beta=0.3)).sum()

    assert torch.allclose(gradient(loss, OLD), -gradient(objective, OLD), atol=1e-14)


def test_three_arms():
    behaviour, rewards = torch.tensor([0.3, 0.6, 0.1], dtype=F64), torch.tensor([0.0, 0.8, 1.0], dtype=F64)
    group = torch.arange(3).repeat_interleave(torch.tensor([3, 6, 1]))
    logits = torch.zeros(3, dtype=F64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=10.0)
    for _ in range(300):
        optimizer.zero_grad()
        pref.group_reinforce_loss(logits.log_softmax(-1)[group], rewards[group]).backward()
        optimizer.step()
    assert torch.allclose(logits.softmax(-1), torch.tensor([0.0, 1.0, 0.0], dtype=F64), atol=1e-4)

    weights = torch.outer(behaviour, behaviour)
    for loss in (
        lambda p, old: (weights * pref.rebel_loss(pairs(p), pairs(old), pairs(rewards), step_size=10.0)).sum(),
        lambda p, old: pref.opmd_loss(p[group], old[group], rewards[group], temperature=0.1),
    ):
        policy, best = torch.zeros(3, dtype=F64).log_softmax(-1), []
        for _ in range(3):
            old = policy
            policy = minimiser(lambda p, old=old, loss=loss: loss(p, old), 3)
            best.append(float(policy[2].exp()))
        assert best == pytest.approx([0.8808, 0.9820, 0.9975], abs=6e-5)


def test_baselines_and_masks():
    rewards = torch.tensor([[0.0, 1.0, 2.0]], dtype=F64)
    assert torch.allclose(pref.group_baseline(rewards), torch.ones(1, 1, dtype=F64))
    soft = pref.group_baseline(rewards, "log_mean_exp", temperature=0.5)
    assert torch.allclose(soft, 0.5 * (2 * rewards).exp().mean(-1, keepdim=True).log())
    cold = pref.group_baseline(rewards, "log_mean_exp", temperature=1e6)
    assert torch.allclose(cold, torch.ones(1, 1, dtype=F64), atol=1e-5)
    ratio = torch.tensor([1.3, 0.7, 1.3, 0.7, 1.0]).log()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0])
    assert pref.clip_mask(ratio, advantage, 0.2, 0.2).tolist() == [False, True, True, False, True]
    log_p = ratio.clone().requires_grad_()
    loss = pref.group_reinforce_loss(log_p, advantage, log_old=torch.zeros(5), clip=(0.2, 0.2))
    slope = torch.autograd.grad(loss, log_p)[0]
    # No importance weights: the slope of what is kept is the advantage itself.
    kept = -(advantage - advantage.mean()) / 5
    assert torch.allclose(slope, kept * torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda p: pref.rebel_loss(p, p, p[..., :1], step_size=1.0), ShapeError, "one shape"),
        (lambda p: pref.rebel_loss(p, p, p, step_size=0.0), DomainError, "step_size"),
        (lambda p: pref.dno_loss(p.repeat(1, 2), p.repeat(1, 2), p.repeat(1, 2), step_size=1.0), ShapeError, "stack"),
        (lambda p: pref.opmd_loss(p, p, p, temperature=-1.0), DomainError, "temperature"),
        (lambda p: pref.onpo_loss(p, p, p, step_size=1.0), ShapeError, "one number per pair"),
        (lambda p: pref.ipo_loss(p, p, p[..., 0] > 0, beta=1.0), ShapeError, "labels"),
        (lambda p: pref.ipo_loss(p, p, p[..., 0], beta=0.0), DomainError, "beta"),
        (lambda p: pref.inpo_loss(p, p, p, p[..., 0], step_size=2.0, beta=0.7), DomainError, "smaller steps"),
        (lambda p: pref.nash_md_loss(p, p, p, beta=-0.1), DomainError, "beta"),
        (lambda p: pref.group_reinforce_loss(p, p, penalty=0.1), DomainError, "log_old"),
        (lambda p: pref.group_reinforce_loss(p, p, penalty=-0.1), DomainError, "penalty"),
        (lambda p: pref.group_reinforce_loss(p, p, baseline="median"), DomainError, "baseline"),
        (lambda p: pref.group_reinforce_loss(p[:, :1], p[:, :1]), DomainError, "two answers"),
        (lambda p: pref.group_reinforce_loss(p, p, log_old=p, clip=(1.2, 0.2)), DomainError, "clip ranges"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call(policies(3, 2))
