"""Value-based agents: targets against independent evaluations, saving, seeds, errors, a short run."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule, set_random_seed
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from mirrorgen.errors import DomainError
from mirrorgen.policy.agents.munchausen_dqn import MVIQ
from mirrorgen.policy.agents.stacked_networks import QStack
from mirrorgen.policy.agents.staq import StaQ, entropy_sarsa_targets

SMALL = {"policy_kwargs": {"net_arch": [16]}, "batch_size": 16, "buffer_size": 500, "device": "cpu"}


class Dial(gym.Env):
    """Reward 1 for the action that the observation names; episodes are cut, never over."""

    def __init__(self, actions=3, action_space=None, length=20):
        self.observation_space = spaces.Box(-10.0, 10.0, (actions,), np.float32)
        self.action_space = spaces.Discrete(actions) if action_space is None else action_space
        self.actions, self.length = actions, length

    def _look(self):
        self.right = int(self.np_random.integers(self.actions))
        return 3.0 * np.eye(self.actions, dtype=np.float32)[self.right] + 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._look(), {}

    def step(self, action):
        reward = float(action == self.right)
        self.time += 1
        return self._look(), reward, False, self.time == self.length, {}


def mviq(env=None, seed=0, **options):
    options = {"learning_starts": 20, "train_freq": 10, "gradient_steps": 4, **SMALL, **options}
    return MVIQ("MlpPolicy", Dial() if env is None else env, 1e-3, seed=seed, **options)


def staq(env=None, seed=0, **options):
    options = {"train_freq": 25, "memory": 3, **SMALL, **options}
    return StaQ("MlpPolicy", Dial() if env is None else env, 1e-3, seed=seed, **options)


# Munchausen value iteration


def independent_targets(model, batch):
    """Targets row by row from the definition, the sparsemax by its support's search."""
    rows = []
    with torch.no_grad():
        here, there = (model.q_net_target(o).double() for o in (batch.observations, batch.next_observations))
    tau = model.temperature
    for i, (v, w) in enumerate(zip(here.numpy(), there.numpy(), strict=True)):
        action = int(batch.actions[i])
        if model.q == 1:
            p, n = (np.exp(x / tau) / np.exp(x / tau).sum() for x in (v, w))
            bonus = min(0.0, max(model.lowest, tau * np.log(p[action])))
            entropy = -(n * np.log(n)).sum()
        else:
            p, n = sparsemax(v / (2 * tau)), sparsemax(w / (2 * tau))
            bonus, entropy = v[action] - p @ v, 1 - (n**2).sum()
        follow = model.gamma * (1 - float(batch.dones[i])) * (n @ w + tau * entropy)
        rows.append(float(batch.rewards[i]) + model.share * bonus + follow)
    return torch.tensor(rows)


def sparsemax(z):
    """The Euclidean projection onto the simplex by trying all supports."""
    best, size = None, len(z)
    for support in itertools.chain.from_iterable(itertools.combinations(range(size), k) for k in range(1, size + 1)):
        index = list(support)
        p = np.zeros(size)
        p[index] = z[index] - (z[index].sum() - 1) / len(index)
        if (p >= 0).all() and (best is None or ((p - z) ** 2).sum() < ((best - z) ** 2).sum()):
            best = p
    return best


@pytest.mark.parametrize(("q", "temperature"), [(1.0, 0.2), (2.0, 0.2), (2.0, 1.0)])
def test_targets_are_those_of_an_independent_evaluation(q, temperature):
    model = mviq(Dial(), q=q, temperature=temperature, target_update_interval=30)
    model.learn(100)
    # Whatever was learnt so far, values that differ between states and actions, and some ends.
    nn.init.normal_(model.q_net_target.q_net[-1].weight, std=0.3)
    batch = model.replay_buffer.sample(32)
    batch = batch._replace(dones=(torch.arange(32) % 3 == 0).float().unsqueeze(-1))
    found = model.targets(batch)
    assert found.shape == (32,)
    assert not found.requires_grad
    torch.testing.assert_close(found, independent_targets(model, batch), rtol=0, atol=1e-5, check_dtype=False)


def test_index_near_one_gives_munchausen_dqn_and_the_entropy_of_its_bonus():
    model = mviq(q=1.0, temperature=0.5, lowest=-float("inf"))
    model.learn(60)
    batch = model.replay_buffer.sample(64)
    one = model.targets(batch)
    model.q = 1 + 1e-8
    model.share, plain = 0.0, model.targets(batch)
    near = model.targets(batch)
    assert not torch.allclose(plain, one, atol=1e-3)  # The bonus is not nothing.
    model.q = 1.0
    torch.testing.assert_close(near, model.targets(batch), rtol=0, atol=1e-6)
    model.share, model.q = 0.9, 1 + 1e-8
    log_policy = (model.q_net_target(batch.observations) / 0.5).log_softmax(-1).detach()
    entropy = -(log_policy.exp() * log_policy).sum(-1)
    torch.testing.assert_close(model.targets(batch) - 0.9 * 0.5 * entropy, one, rtol=0, atol=1e-6)


def test_a_training_step_descends_the_huber_loss_of_the_targets():
    model = mviq(learning_starts=1000, policy_kwargs={"net_arch": [16], "optimizer_class": torch.optim.SGD})
    model.learn(60)
    before = [p.detach().clone() for p in model.q_net.parameters()]
    set_random_seed(1)
    model.train(3, batch_size=8)
    moved = [p.detach().clone() for p in model.q_net.parameters()]
    # The same three steps by hand; learning rate 1e-3, no gradient long enough to be cut.
    with torch.no_grad():
        for p, old in zip(model.q_net.parameters(), before, strict=True):
            p.copy_(old)
    set_random_seed(1)
    batch = model.replay_buffer.sample(24)
    targets = model.targets(batch)
    for rows in torch.arange(24).split(8):
        values = model.q_net(batch.observations[rows])[torch.arange(8), batch.actions[rows, 0].long()]
        loss = torch.nn.functional.huber_loss(values, targets[rows])
        grads = torch.autograd.grad(loss, list(model.q_net.parameters()))
        with torch.no_grad():
            for p, g in zip(model.q_net.parameters(), grads, strict=True):
                p -= 1e-3 * g
    for p, q, old in zip(model.q_net.parameters(), moved, before, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
        assert not torch.equal(q, old)


def test_policies_of_values():
    model = mviq(q=2.0, temperature=0.05)
    x = torch.randn(20, 3)
    log_policy = model.log_policy(x)
    assert torch.equal(log_policy.argmax(-1), torch.as_tensor(model.predict(x.numpy(), deterministic=True)[0]))
    torch.testing.assert_close(log_policy.exp().sum(-1), torch.ones(20))


def test_observations_of_several_parts():
    class Parts(Dial):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Dict({"look": self.observation_space})

        def _look(self):
            return {"look": super()._look()}

    model = MVIQ("MultiInputPolicy", Parts(), learning_starts=20, buffer_size=100, batch_size=8, train_freq=8)
    model.learn(40)
    assert model._n_updates == 3


# Stacked policies


def test_targets_with_exact_entropy():
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((6,), (6, 3)))
    log_policy, discounts = values.mul(2).log_softmax(-1), torch.tensor([0.9, 0.0] * 3, dtype=torch.float64)
    found = entropy_sarsa_targets(rewards, values, log_policy, discounts, 0.3)
    drawn = entropy_sarsa_targets(rewards, values, log_policy, discounts, 0.3, torch.tensor([0, 1, 2] * 2))
    for i in range(6):
        p = log_policy[i].exp()
        entropy = -(p * p.log()).sum()
        assert found[i] == pytest.approx(float(rewards[i] + discounts[i] * ((p * values[i]).sum() + 0.3 * entropy)))
        assert drawn[i] == pytest.approx(float(rewards[i] + discounts[i] * (values[i, i % 3] + 0.3 * entropy)))


@pytest.mark.parametrize("expected_values", [True, False])
def test_an_iteration_regresses_on_its_targets_and_pushes_once(expected_values):
    model = staq(expected_values=expected_values, kl_weight=2.0, temperature=0.5, reward_scale=3.0, gamma=0.9)
    model.learn(100)
    assert int(model.policy.stack.pushes) == 4
    assert len(model.policy.stack) == 3
    assert model._n_updates == 100
    log_actions = np.log(3)
    kappa, tau = model.weights()
    assert (kappa, tau) == (pytest.approx(2 / log_actions), pytest.approx(0.5 / log_actions))
    data = model._replayed()
    assert len(data.rewards) == 100
    assert set(data.rewards.tolist()) == {0.0, 3.0}
    assert torch.equal(data.discounts, torch.full((100,), 0.9))  # Cut episodes are no ends.
    # The ensemble's loss on given rows, by a loop.
    rows = torch.arange(10)
    state = torch.get_rng_state()
    with torch.no_grad():
        q, p = model.policy.q_net_target(data.next_inputs[rows]).mean(0), data.next_log_policy[rows].exp()
        torch.testing.assert_close(p, model.policy.stack(data.next_inputs[rows]).softmax(-1))
        drawn = torch.multinomial(p, 1).squeeze(-1)
        following = (p * q).sum(-1) if expected_values else q[rows, drawn]
        y = data.rewards[rows] + data.discounts[rows] * (following - tau * (p * p.log()).sum(-1))
        chosen = model.policy.q_net(data.inputs[rows])[:, rows, data.actions[rows]]
        loss = torch.stack([nn.functional.huber_loss(c, y) for c in chosen]).mean()
    torch.set_rng_state(state)
    torch.testing.assert_close(model._descend(data, rows, tau), loss)


def test_behaviour_is_the_softmax_with_uniform_actions_and_evaluation_greedy():
    model = staq(exploration_eps=0.3)
    x = np.array([[1.0, 4.0, 1.0]], dtype=np.float32)
    model.predict(x)
    model.policy.stack.push(model.policy.q_net, 20.0, 0.0)
    logits = model.policy.logits(torch.as_tensor(x))[0]
    assert int(model.predict(x, deterministic=True)[0][0]) == int(logits.argmax())
    torch.manual_seed(0)
    drawn, _ = model.predict(np.repeat(x, 20_000, 0), deterministic=False)
    shares = torch.bincount(torch.as_tensor(drawn), minlength=3) / 20_000
    expected = 0.7 * logits.softmax(-1) + 0.1
    assert float((shares - expected).abs().max()) < 0.015  # Four standard errors.
    assert float(shares.min()) > 0.085
    assert float(shares.max() - shares.min()) > 0.1


def test_replayed_logits_are_moved_on_and_only_new_states_see_the_whole_stack(monkeypatch):
    """Two environments, a ring of 2 x 40 transitions that is overwritten more than once, a callback that stops."""
    model = staq(make_vec_env(Dial, 2, seed=0), buffer_size=80, train_freq=15, gradient_steps=10)
    rows, whole = [], QStack.forward
    monkeypatch.setattr(QStack, "forward", lambda self, x: rows.append(len(x)) or whole(self, x))
    model.learn(240)
    assert model.replay_buffer.full
    # Acting looks at two states at a time.
    assert [n for n in rows if n > 2] == [30] * 8
    for _ in range(2):
        data = model._replayed()
        torch.testing.assert_close(data.next_logits, whole(model.policy.stack, data.next_inputs), rtol=1e-4, atol=1e-4)
        model.learn(150, callback=lambda local, _: local["self"].num_timesteps < 100)
        assert model.num_timesteps == 100


def test_temperature_follows_its_schedule():
    seen = []

    class Keep(BaseCallback):
        def _on_step(self):
            seen.append(self.model.weights()[1] * np.log(3))
            return True

    model = staq(temperature=LinearSchedule(2.0, 0.4, 0.5), env=Dial())
    model.learn(100, callback=Keep())
    assert seen[0] == pytest.approx(2.0)
    assert seen[50] == pytest.approx(0.4)
    assert seen[-1] == pytest.approx(0.4)
    assert seen[25] == pytest.approx(1.2)


def test_published_settings(tmp_path):
    settings = StaQ.paper_settings(total_timesteps=1_000_000)
    model = StaQ("MlpPolicy", Dial(), device="cpu", **{**settings, "policy_kwargs": {"net_arch": [8, 8]}})
    assert (model.memory, model.ensemble, model.kl_weight, model.batch_size) == (300, 2, 20.0, 256)
    assert model.policy.stack.coefficients.shape == (300,)
    model.save(tmp_path / "agent")
    for temperature in (model.temperature, StaQ.load(tmp_path / "agent", device="cpu").temperature):
        assert temperature(0.5) == pytest.approx(0.4)
        assert temperature(0.75) == pytest.approx(1.2)


# Both


@pytest.mark.parametrize("make", [mviq, staq])
def test_saved_agents_act_alike_and_go_on(make, tmp_path):
    model = make()
    model.learn(150)
    model.save(tmp_path / "agent")
    again = type(model).load(tmp_path / "agent", env=Dial(), device="cpu")
    state, loaded = model.policy.state_dict(), again.policy.state_dict()
    assert list(state) == list(loaded)
    assert all(torch.equal(state[k], loaded[k]) for k in state)
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(*(m.predict(x, deterministic=True)[0] for m in (model, again)))
    for name in ("q", "share", "temperature", "lowest", "memory", "kl_weight"):
        assert getattr(model, name, None) == getattr(again, name, None)
    again.learn(100, reset_num_timesteps=False)
    assert again.num_timesteps == 250
    assert again._n_updates > model._n_updates
    if make is staq:
        # Pushes are counted on: six before, four after.
        assert int(again.policy.stack.pushes) == 10


@pytest.mark.parametrize("make", [mviq, staq])
def test_learning_on_with_the_buffer_is_learning_through(make, tmp_path):
    """A copy by way of files, buffer included, makes the updates that the original makes."""
    model = make()
    model.learn(150)
    model.save(tmp_path / "agent")
    model.save_replay_buffer(tmp_path / "buffer")
    again = type(model).load(tmp_path / "agent", env=Dial(), device="cpu")
    again.load_replay_buffer(tmp_path / "buffer")
    for agent in (model, again):
        set_random_seed(1)
        agent._logger = model.logger
        agent.train(gradient_steps=5, batch_size=16)
    # Up to rounding: the copy evaluates the whole stack where the original moves logits on.
    for p, q in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [mviq, staq])
def test_seeds_reproduce(make):
    first, second, other = (make(seed=s).learn(80) for s in (3, 3, 4))
    same, differ = (
        [torch.equal(p, q) for p, q in zip(first.policy.parameters(), m.policy.parameters(), strict=True)]
        for m in (second, other)
    )
    assert all(same)
    assert not any(differ)


@pytest.mark.parametrize("make", [mviq, staq])
def test_normalised_vectors_of_environments_and_callbacks(make, tmp_path):
    env = VecNormalize(make_vec_env(Dial, 2, seed=0))
    model = make(env)
    logged = {}

    class Keep(BaseCallback):
        def _on_rollout_start(self):
            logged.update(self.logger.name_to_value)

        def _on_step(self):
            return True

    evaluation = EvalCallback(
        VecNormalize(make_vec_env(Dial, 1), training=False, norm_reward=False), eval_freq=60, n_eval_episodes=1,
        log_path=str(tmp_path), verbose=0,
    )  # fmt: skip
    model.learn(200, callback=[Keep(), evaluation])
    assert (tmp_path / "evaluations.npz").exists()
    assert {"train/loss", "train/n_updates", "train/learning_rate"} <= set(logged)
    assert np.isfinite(logged["train/loss"])
    if make is staq:
        data = model._replayed()
        assert len(data.rewards) == 200
        raw = model.replay_buffer.observations[:100].reshape(200, 3)
        scaled = (raw - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon)
        np.testing.assert_allclose(data.inputs.numpy(), scaled, rtol=1e-4, atol=1e-4)
        # Normalisation has moved since the last iteration: nothing that was known before is of use.
        assert torch.equal(data.next_logits, model.policy.stack(data.next_inputs))


@pytest.mark.parametrize("make", [mviq, staq])
def test_bad_options_are_named_before_training(make):
    bad = [("temperature", 0.0), ("temperature", float("nan"))]
    bad += [("q", 0.0), ("q", -1.0), ("share", 1.5), ("lowest", 0.5)] if make is mviq else []
    bad += [("memory", 0), ("ensemble", 1.5), ("kl_weight", -1.0), ("exploration_eps", 2)] if make is staq else []
    for name, value in bad:
        with pytest.raises(DomainError, match=name):
            make(**{name: value})
    with pytest.raises(DomainError, match=r"Discrete action space.*MDPO"):
        make(Dial(action_space=spaces.Box(-1.0, 1.0, (2,))))
    with pytest.raises(DomainError, match="count from zero"):
        make(Dial(action_space=spaces.Discrete(3, start=1)))
    if make is staq:
        with pytest.raises(DomainError, match="hidden layer"):
            make(policy_kwargs={"net_arch": []})


@pytest.mark.parametrize("make", [mviq, staq])
def test_a_short_run_learns_the_dial(make):
    """Chance earns a third of twenty steps; the values of one step are all there is to learn."""
    options = {"gamma": 0.5, "batch_size": 32, "learning_rate": 5e-3} if make is staq else {"gamma": 0.5}
    options |= {"temperature": 0.1, "train_freq": 50, "gradient_steps": 50}
    learner = {mviq: MVIQ, staq: StaQ}[make]
    common = {**SMALL, **options, "learning_rate": 5e-3, "seed": 0}
    model = learner("MlpPolicy", Dial(), **common)
    model.learn(500)
    env = Monitor(Dial())
    total, (x, _) = 0.0, env.reset(seed=5)
    for _ in range(20):
        x, reward, *_ = env.step(model.predict(x, deterministic=True)[0])
        total += reward
    assert total >= 18


@pytest.mark.parametrize("make", [mviq, staq])
def test_a_short_run_beats_chance_on_the_pole(make):
    """Chance holds the pole for 22 steps on average."""
    poles = make_vec_env("CartPole-v1", 4, seed=0)
    options = {"seed": 0, "device": "cpu", "learning_rate": 2.3e-3, "policy_kwargs": {"net_arch": [64, 64]}}
    if make is mviq:
        options |= {"train_freq": 16, "gradient_steps": 64, "batch_size": 64, "target_update_interval": 16}
        options |= {"learning_starts": 256, "exploration_fraction": 0.3}
    else:
        options |= {"train_freq": 125, "gradient_steps": 250, "memory": 10}
    model = {mviq: MVIQ, staq: StaQ}[make]("MlpPolicy", poles, **options).learn(2500)
    env = gym.make_vec("CartPole-v1", num_envs=20, vectorization_mode="vector_entry_point")
    (x, _), alive, length = env.reset(seed=1), np.ones(20, dtype=bool), np.zeros(20)
    while alive.any():
        x, _, ended, cut, _ = env.step(model.predict(x, deterministic=True)[0])
        length += alive
        alive &= ~(ended | cut)
    assert length.mean() > 60
