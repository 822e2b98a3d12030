"""Actor-critics: laws of actions against torch's, losses against formulas, Stable-Baselines3's contract, self-play."""

import math
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from mirrorgen.errors import DomainError
from mirrorgen.policy import ClipDrift, games
from mirrorgen.policy.agents import MDPO, MMD, DriftPO, GymnasiumVecEnv, SelfPlay, SelfPlayEnv, SoftMDPO
from mirrorgen.policy.agents.laws import ActionLaw, action_law, divergence
from mirrorgen.policy.agents.rollouts import Rollouts

torch.set_num_threads(1)
SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 0}


@pytest.fixture
def cartpole():
    env = make_vec_env("CartPole-v1", 4, seed=0)
    yield env
    env.close()


@pytest.fixture
def pendulum():
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    yield env
    env.close()


def laws(n=64, seed=0):
    """Pairs of laws of every kind with torch's distributions of the joint action."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, 3, generator=g).double()
    yield "categorical", CategoricalDistribution(3), (a,), (b,)
    yield "multi", MultiCategoricalDistribution([2, 1]), (a,), (b,)
    yield "bernoulli", BernoulliDistribution(3), (a,), (b,)
    yield "gaussian", DiagGaussianDistribution(3), (a, 0.3 * a[0]), (b, -0.2 * b[0])


@pytest.mark.parametrize("i", range(4))
def test_divergence_is_that_of_the_joint_action(i):
    name, kind, first, second = list(laws())[i]
    p = kind.proba_distribution(*first)
    new, mine = action_law(p).detach(), p.distribution
    old, theirs = action_law(kind.proba_distribution(*second)), kind.distribution
    if name == "multi":
        expected = sum(torch.distributions.kl_divergence(x, y) for x, y in zip(mine, theirs, strict=True))
    else:
        expected = torch.distributions.kl_divergence(mine, theirs)
        expected = expected if name == "categorical" else expected.sum(-1)
    assert torch.allclose(divergence(new, old), expected, rtol=1e-9)
    # New first: the other order is another number.
    assert not torch.allclose(divergence(old, new), expected, rtol=1e-2)
    assert torch.equal(divergence(new.rows(torch.arange(5)), old.rows(torch.arange(5))), divergence(new, old)[:5])


@pytest.mark.parametrize("q", [0.5, 1.5, 2.0])
def test_tsallis_divergences(q):
    p, m = (torch.randn(7, 4, generator=torch.Generator().manual_seed(s)).double().log_softmax(-1) for s in (0, 1))
    new, old = ActionLaw((p,)), ActionLaw((m,))
    x, y = p.exp(), m.exp()
    bregman = (x**q - q * x * y ** (q - 1) + (q - 1) * y**q).sum(-1) / (q * (q - 1))
    relative = ((x**q * y ** (1 - q)).sum(-1) - 1) / (q - 1)
    assert torch.allclose(divergence(new, old, q), bregman, rtol=1e-9)
    assert torch.allclose(divergence(new, old, q, "relative"), relative, rtol=1e-9)


def test_tsallis_relative_entropy_of_normals_by_quadrature():
    nodes = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    new = ActionLaw((torch.tensor([[0.3]]).double(), torch.tensor([[-0.2]]).double()), True)
    old = ActionLaw((torch.tensor([[-0.4]]).double(), torch.tensor([[0.1]]).double()), True)
    p, m = (torch.distributions.Normal(*(t.squeeze() for t in (w.tensors[0], w.tensors[1].exp()))) for w in (new, old))
    q = 1.7
    values = torch.exp(q * p.log_prob(nodes) + (1 - q) * m.log_prob(nodes))
    expected = (torch.trapezoid(values, nodes) - 1) / (q - 1)
    assert torch.allclose(divergence(new, old, q, "relative"), expected, rtol=1e-9)
    with pytest.raises(DomainError, match="unit of the actions"):
        divergence(new, old, q)


@pytest.mark.parametrize(("q", "kind"), [(1.0, "bregman"), (2.0, "bregman"), (1.5, "relative")])
def test_tabular_steps_of_the_loss_reach_the_proximal_step(q, kind):
    """With one observation and all actions weighted by the old policy, the minimiser is known: of KL in closed form."""
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(1, 5, generator=generator).double().log_softmax(-1)
    values, t = torch.randn(5, generator=generator).double(), 0.7
    logits = old.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=60, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        new = logits.log_softmax(-1)
        loss = divergence(ActionLaw((new,)), ActionLaw((old,)), q, kind).sum() / t - (new.exp() * values).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = logits.detach().log_softmax(-1)
    if kind == "bregman":
        from mirrorgen.policy import proximal_step

        expected = proximal_step(old, values, step_size=t, q=q)
        assert torch.allclose(found.exp(), expected.exp(), atol=1e-6)
    else:
        # Stationarity: values - q / (q - 1) (p / m)^(q - 1) / t is constant.
        dual = values - q / (q - 1) * torch.exp((q - 1) * (found - old)) / t
        assert float(dual.std()) < 1e-6


def collected(agent):
    """An agent with a full buffer and its rollouts."""
    agent._setup_learn(10_000)
    from stable_baselines3.common.callbacks import CallbackList

    callback = CallbackList([])
    callback.init_callback(agent)
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
    return Rollouts.of(agent.rollout_buffer, agent.policy, agent.action_space)


def test_loss_of_mdpo(cartpole):
    agent = MDPO("MlpPolicy", cartpole, **SMALL, step_size=0.25)
    rows = collected(agent)
    law, log_ratio, _, _ = agent.evaluate(rows)
    assert torch.allclose(log_ratio, torch.zeros(()), atol=1e-5)
    loss = agent.policy_loss(law, log_ratio, rows)
    assert torch.allclose(loss, -rows.advantages.mean(), atol=1e-5)
    with torch.no_grad():
        agent.policy.action_net.bias += torch.tensor([0.5, -0.2])
    law, log_ratio, _, _ = agent.evaluate(rows)
    new, old = law.tensors[0], rows.law.tensors[0]
    ratio = torch.exp((new - old).gather(1, rows.actions[:, None]))[:, 0]
    expected = (new.exp() * (new - old)).sum(-1).mean() / 0.25 - (ratio * rows.advantages).mean()
    assert torch.allclose(agent.policy_loss(law, log_ratio, rows), expected, rtol=1e-4)


def test_clip_drift_is_ppo(cartpole):
    """The same weights after one pass in one batch as Stable-Baselines3's PPO."""
    from stable_baselines3 import PPO

    settings = {**SMALL, "batch_size": 128, "n_epochs": 3, "policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5}}}
    theirs = PPO("MlpPolicy", cartpole, **settings)
    ours = DriftPO("MlpPolicy", cartpole, **settings, drift=ClipDrift(0.2))
    ours.policy.load_state_dict(theirs.policy.state_dict())
    collected(theirs)
    ours._setup_learn(10_000)
    ours.rollout_buffer = theirs.rollout_buffer
    theirs.set_logger(ours.logger)
    theirs.train()
    ours.train()
    for a, b in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-6)


def test_minibatches_cover_everything_once():
    n = 103
    law = ActionLaw((torch.zeros(n, 2),))
    rows = Rollouts(torch.arange(n), *(torch.arange(n).float() for _ in range(5)), law)
    sizes = [len(b) for b in rows.batches(10)]
    assert sum(sizes) == n
    assert min(sizes) >= 10
    seen = torch.cat([b.observations for b in rows.batches(10)])
    assert torch.equal(seen.sort().values, torch.arange(n))
    standard = rows.standardized().advantages
    assert abs(float(standard.mean())) < 1e-6
    assert abs(float(standard.std()) - 1) < 1e-6


AGENTS = {
    "full batch": (MDPO, {"full_batch": True}),
    "minibatches": (MDPO, {"ent_coef": 0.01, "clip_range_vf": 0.2}),
    "tsallis": (MDPO, {"q": 1.5, "divergence": "relative"}),
    "drift": (DriftPO, {}),
    "magnet": (MMD, {"magnet": "moving", "normalize_advantage": True}),
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1"])
def test_learns_saves_and_goes_on(name, environment, tmp_path):
    cls, options = AGENTS[name]
    env = VecNormalize(make_vec_env(environment, 2, seed=0))
    agent = cls("MlpPolicy", env, **SMALL, **options).learn(256)
    logged = dict(agent.logger.name_to_value)
    assert logged["train/approx_kl"] > 0
    assert np.isfinite([v for v in logged.values() if isinstance(v, float)]).all()
    again = cls("MlpPolicy", VecNormalize(make_vec_env(environment, 2, seed=0)), **SMALL, **options).learn(256)
    for a, b in zip(agent.policy.parameters(), again.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    agent.save(tmp_path / "agent")
    loaded = cls.load(tmp_path / "agent", env=env, device="cpu")
    observations = env.reset()
    assert np.array_equal(
        agent.predict(observations, deterministic=True)[0], loaded.predict(observations, deterministic=True)[0]
    )
    if name == "magnet":
        for a, b in zip(agent.magnet_policy.parameters(), loaded.magnet_policy.parameters(), strict=True):
            assert torch.equal(a, b)
        assert not all(
            torch.equal(a, b) for a, b in zip(agent.policy.parameters(), agent.magnet_policy.parameters(), strict=True)
        )
    loaded.learn(128, reset_num_timesteps=False)
    assert loaded.num_timesteps == 256 + 128
    env.close()


@pytest.mark.slow
def test_mdpo_solves_cartpole():
    env = make_vec_env("CartPole-v1", 8, seed=3)
    agent = MDPO(
        "MlpPolicy", env, n_steps=128, batch_size=128, n_epochs=20, full_batch=True, learning_rate=1e-3, seed=3
    )
    agent.learn(30_000)
    assert evaluate_policy(agent, make_vec_env("CartPole-v1", 8, seed=99), 16)[0] > 400


def test_full_batch_changes_the_policy_before_the_values(cartpole):
    agent = MDPO("MlpPolicy", cartpole, **SMALL, full_batch=True)
    rows = collected(agent)
    calls = []
    agent._descend = calls.append
    agent.train()
    assert len(calls) == 2 + 2 * (len(rows) // 32)
    assert calls[0].item() == pytest.approx(0.0, abs=1e-5)  # Standardised advantages, no divergence yet.


@pytest.mark.parametrize(
    ("cls", "options", "match"),
    [
        (MDPO, {"step_size": 0.0}, "step_size"),
        (MDPO, {"step_size": LinearSchedule(1.0, 0.0, 1.0)}, "fall to .01"),
        (MDPO, {"q": -1.0}, "q must be positive"),
        (MDPO, {"gamma": 1.2}, "gamma"),
        (MDPO, {"n_epochs": 0}, "n_epochs"),
        (MDPO, {"batch_size": 1}, "batch_size"),
        (MMD, {"magnet_weight": -0.1}, "magnet_weight"),
        (MMD, {"magnet": "fixed"}, "magnet must"),
        (MMD, {"magnet_rate": 0.0}, "magnet_rate"),
        (DriftPO, {"drift": lambda r, a: r}, "negative somewhere"),
        (DriftPO, {"drift": lambda r, a: r.abs()}, "zero slope"),
        (partial(MDPO, "MaskedPolicy"), {}, "action_mask"),
    ],
)
def test_settings_that_cannot_train(cls, options, match, cartpole):
    make = cls if isinstance(cls, partial) else partial(cls, "MlpPolicy")
    with pytest.raises(DomainError, match=match):
        make(cartpole, **{**SMALL, **options})


def test_settings_that_do_not_fit_continuous_actions(pendulum):
    with pytest.raises(DomainError, match="unit of the actions"):
        MDPO("MlpPolicy", pendulum, **SMALL, q=2.0)
    with pytest.raises(DomainError, match="moving"):
        MMD("MlpPolicy", pendulum, **SMALL)


def test_target_kl_ends_an_update(cartpole):
    loose = MDPO("MlpPolicy", cartpole, **{**SMALL, "n_epochs": 8}, learning_rate=0.01)
    tight = MDPO("MlpPolicy", cartpole, **{**SMALL, "n_epochs": 8}, learning_rate=0.01, target_kl=1e-4)
    for agent in (loose, tight):
        collected(agent)
        agent.train()
    assert loose._n_updates == 8
    assert tight._n_updates < 8


# Off-policy.


def replay(agent, steps=200):
    agent.learn(steps)
    return agent.replay_buffer.sample(64)


SOFT = {"learning_starts": 50, "buffer_size": 1000, "batch_size": 32, "device": "cpu", "seed": 0,
        "policy_kwargs": {"net_arch": [16, 16]}}  # fmt: skip


def test_a_step_of_the_inverse_entropy_weight_is_sac(pendulum):
    """The old policy drops out: the loss is SAC's, up to what SAC adds inside its logarithm for safety."""
    agent = SoftMDPO("MlpPolicy", pendulum, **SOFT, ent_coef=0.5, step_size=2.0, magnitude_penalty=0.0)
    batch = replay(agent)
    torch.manual_seed(0)
    loss = agent.actor_loss(batch)
    torch.manual_seed(0)
    actions, log_prob = agent.actor.action_log_prob(batch.observations)
    values = torch.cat(agent.critic(batch.observations, actions), 1).amin(1)
    assert torch.allclose(loss, (0.5 * log_prob - values).mean(), rtol=1e-3)
    assert issubclass(SoftMDPO, SAC)


@pytest.mark.parametrize("q", [1.0, 1.5])
def test_loss_of_soft_mdpo(pendulum, q):
    agent = SoftMDPO("MlpPolicy", pendulum, **SOFT, ent_coef=0.2, step_size=0.5, q=q, magnitude_penalty=0.0)
    batch = replay(agent)
    torch.manual_seed(0)
    loss = agent.actor_loss(batch)
    torch.manual_seed(0)
    mean, log_std, _ = agent.actor.get_action_dist_params(batch.observations)
    u = torch.distributions.Normal(mean, log_std.exp()).rsample()
    old_mean, old_log_std, _ = agent.old_actor.get_action_dist_params(batch.observations)
    jacobian = torch.log1p(-torch.tanh(u.double()).square())
    laws_ = ((mean, log_std), (old_mean, old_log_std))
    new, old = (torch.distributions.Normal(m, s.exp()).log_prob(u) - jacobian for m, s in laws_)
    log = (lambda p: p) if q == 1 else (lambda p: (torch.exp((q - 1) * p) - 1) / (q - 1))
    values = torch.cat(agent.critic(batch.observations, torch.tanh(u)), 1).amin(1)
    expected = ((2.0 * log(new) + q * (0.2 - 2.0) * log(old)).sum(-1) - values).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(p.grad is None for p in agent.old_actor.parameters())


def test_soft_mdpo_saves_its_old_policy(pendulum, tmp_path):
    agent = SoftMDPO("MlpPolicy", pendulum, **SOFT, old_policy_interval=1000).learn(150)
    assert any(
        not torch.equal(a, b) for a, b in zip(agent.actor.parameters(), agent.old_actor.parameters(), strict=True)
    )
    agent.save(tmp_path / "agent")
    loaded = SoftMDPO.load(tmp_path / "agent", env=pendulum, device="cpu")
    for a, b in zip(agent.old_actor.parameters(), loaded.old_actor.parameters(), strict=True):
        assert torch.equal(a, b)
    loaded.learn(60, reset_num_timesteps=False)
    automatic = SoftMDPO("MlpPolicy", pendulum, **SOFT, ent_coef="auto").learn(80)
    assert float(automatic._entropy_weight()) != 1.0


def test_soft_mdpo_refuses(pendulum, cartpole):
    for options in ({"step_size": 0.0}, {"q": 3.0}, {"q": math.nan}, {"old_policy_interval": 0}):
        with pytest.raises(DomainError, match=next(iter(options))):
            SoftMDPO("MlpPolicy", pendulum, **SOFT, **options)
    with pytest.raises(DomainError, match="use_sde"):
        SoftMDPO("MlpPolicy", pendulum, **SOFT, use_sde=True)
    with pytest.raises(DomainError, match="Box of actions"):
        SoftMDPO("MlpPolicy", cartpole, **SOFT)


# Environments.


class Countdown(gymnasium.Env):
    """Ends after ``length`` steps, by a limit or in earnest; rewards and observations count."""

    observation_space = gymnasium.spaces.Box(-100, 100, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length=3, truncates=False):
        self.length, self.truncates = length, truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.at += 1
        over = self.at == self.length
        observation = np.array([self.at], np.float32)
        return observation, float(self.at), over and not self.truncates, over and self.truncates, {}


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_vector_environments_of_gymnasium_are_those_of_stable_baselines(mode):
    makers = [partial(Countdown, 3), partial(Countdown, 2, True)]
    ours = GymnasiumVecEnv(SyncVectorEnv(makers, autoreset_mode=mode))
    theirs = DummyVecEnv(makers)
    ours.seed(0)
    assert np.array_equal(ours.reset(), theirs.reset())
    for _ in range(7):
        a, b = ours.step(np.zeros(2, dtype=int)), theirs.step(np.zeros(2, dtype=int))
        for x, y in zip(a[:3], b[:3], strict=True):
            assert np.array_equal(x, y)
        for x, y in zip(a[3], b[3], strict=True):
            assert x.get("TimeLimit.truncated", False) == y.get("TimeLimit.truncated", False)
            if "terminal_observation" in y:
                assert np.array_equal(x["terminal_observation"], y["terminal_observation"])
                assert x["episode"]["r"] == {3: 6.0, 2: 3.0}[x["episode"]["l"]]
    assert ours.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert len(ours.get_attr("length")) == 2
    ours.close()


def test_resets_one_step_later_are_refused():
    with pytest.raises(DomainError, match="SAME_STEP"):
        GymnasiumVecEnv(SyncVectorEnv([Countdown], autoreset_mode=AutoresetMode.NEXT_STEP))


def test_a_cut_episode_bootstraps():
    env = DummyVecEnv([partial(Countdown, 2, True)])
    agent = MDPO("MlpPolicy", env, **{**SMALL, "n_steps": 4}, gamma=0.5, gae_lambda=0.0)
    rollouts = collected(agent)
    last = agent.policy.predict_values(torch.tensor([[2.0]])).item()
    order = rollouts.observations[:, 0] == 1
    assert torch.allclose(rollouts.returns[order], torch.tensor(2.0 + 0.5 * last), atol=1e-5)


# Self-play.


def test_masks_forbid():
    game = games.leduc_poker(merge_suits=True)
    env = SelfPlayEnv(game, 16)
    env.seed(0)
    agent = MMD("MaskedPolicy", env, **SMALL)
    observations = env.reset()
    for _ in range(20):
        actions, _ = agent.predict(observations)
        assert (observations["action_mask"][np.arange(16), actions] == 1).all()
        observations, *_ = env.step(actions)
    log_policy = env.log_policy(agent)
    assert torch.equal(log_policy > -torch.inf, game.mask)
    agent.learn(64, callback=SelfPlay(1))
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())
    forbidden = {k: torch.as_tensor(v) for k, v in observations.items()} | {"action_mask": torch.zeros(16, 3)}
    with pytest.raises(DomainError, match="allows no action"):
        agent.policy.get_distribution(forbidden)
    with pytest.raises(DomainError, match="not allowed"):
        env.step(_forbidden(env))


def _forbidden(env):
    """An action that is out at the first play that has one, allowed ones elsewhere."""
    mask = env.mask[env._row[env._node]]
    actions = mask.argmax(-1)
    row = int(np.flatnonzero(~mask.all(-1))[0])
    actions[row] = int(np.flatnonzero(~mask[row])[0])
    return actions


def test_self_play_is_fair():
    """Mean rewards of a fixed policy against another are the game's exact values, seat by seat."""
    game = games.kuhn_poker()
    env = SelfPlayEnv(game, 4000)
    env.seed(1)
    generator = torch.Generator().manual_seed(0)
    mine, other = (torch.randn(12, 2, generator=generator).double().log_softmax(-1) for _ in range(2))
    env.opponent = other
    observations = env.reset()
    random = np.random.default_rng(0)
    totals, counts = np.zeros(2), np.zeros(2)
    squares = np.zeros(2)
    for _ in range(12):
        rows = env._row[env._node]
        seats = env._seat.copy()
        actions = (random.random(4000) > mine.exp().numpy()[rows, 0]).astype(int)
        observations, rewards, done, _ = env.step(actions)
        for seat in (0, 1):
            ended = done & (seats == seat)
            totals[seat] += rewards[ended].sum()
            squares[seat] += (rewards[ended] ** 2).sum()
            counts[seat] += ended.sum()
    first = torch.where((game.owner == 0)[:, None], mine, other)
    second = torch.where((game.owner == 1)[:, None], mine, other)
    exact = np.array([float(game.value(first)), -float(game.value(second))])
    means = totals / counts
    errors = np.sqrt((squares / counts - means**2) / counts)
    assert (np.abs(means - exact) < 4 * errors).all()
    assert observations["observation"].shape == (4000, env.features.shape[1])


@pytest.mark.slow
def test_self_play_approaches_equilibrium():
    env = SelfPlayEnv(games.kuhn_poker(), 64)
    env.seed(0)
    callback = SelfPlay(20)
    settings = {"n_steps": 32, "batch_size": 1024, "n_epochs": 4, "gamma": 1.0, "gae_lambda": 0.9, "seed": 0}
    agent = MMD("MaskedPolicy", env, **settings, learning_rate=3e-3, step_size=0.5, magnet_weight=0.2)
    agent.learn(60_000, callback=callback)
    assert callback.history[0][1] > 0.3
    # The magnet alone keeps the policy at an exploitability of about .05.
    assert callback.history[-1][1] < 0.2


def test_self_play_refuses_other_environments(cartpole):
    agent = MDPO("MlpPolicy", cartpole, **SMALL)
    with pytest.raises(DomainError, match="SelfPlayEnv"):
        agent.learn(10, callback=SelfPlay())
