"""Linear decision processes by enumeration, and their learner against plain loops."""

import itertools
import math

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.tabular import (
    LinearMDP,
    contracted_feature_policy_optimization,
    contraction_factors,
    feature_norms,
    one_hot_mdp,
    random_linear_mdp,
)

F64 = torch.float64


def test_best_values_are_those_of_the_best_policy():
    mdp = one_hot_mdp(2, 2, 2, batch=3, seed=1)
    choices = torch.tensor(list(itertools.product(range(2), repeat=4))).reshape(16, 1, 2, 2)
    policies = torch.nn.functional.one_hot(choices, 2).to(F64).log()
    every = mdp.value_of(policies)
    assert every.shape == (16, 3)
    assert torch.allclose(every.amax(0), mdp.value_of())
    assert float(every.std(0).min()) > 0.01


def test_values_are_sums_over_paths():
    mdp = random_linear_mdp(3, 2, 4, 3, seed=2)
    logs = torch.randn(mdp.shape, generator=torch.Generator().manual_seed(0), dtype=F64).log_softmax(-1)
    P, r, pi = mdp.transitions[0], mdp.expected_rewards[0], logs[0].exp()
    total = 0.0
    for path in itertools.product(itertools.product(range(3), range(2)), repeat=3):
        mass, reward, state = 1.0, 0.0, 0
        for h, (s, a) in enumerate(path):
            # Start in state 0, then as the transitions say.
            arrive = float(s == 0) if h == 0 else float(P[h - 1, state, path[h - 1][1], s])
            mass *= arrive * float(pi[h, s, a])
            reward += float(r[h, s, a])
            state = s
        total += mass * reward
    assert abs(total - float(mdp.value_of(logs)[0])) < 1e-12


def test_features_are_on_the_simplex_and_give_probabilities():
    mdp = random_linear_mdp(batch=2)
    assert mdp.features.shape == (2, 20, 4, 6)
    assert torch.allclose(mdp.features.sum(-1), torch.ones(2, 20, 4, dtype=F64))
    assert torch.allclose(mdp.transitions.sum(-1), torch.ones(mdp.shape, dtype=F64))


def test_norms_of_counted_features():
    mdp, counts = one_hot_mdp(2, 2, 1), torch.tensor([0.0, 1.0, 3.0, 8.0], dtype=F64)
    gram = torch.diag_embed(1 + counts)[None, None]
    norms = feature_norms(mdp.features, torch.linalg.cholesky(gram))
    assert torch.allclose(norms.flatten(), (1 + counts).rsqrt())
    factors = contraction_factors(norms, math.log(100), 100).flatten()
    assert torch.allclose(factors[0], torch.tensor(0.5, dtype=F64))
    assert torch.allclose(factors[3], 1 / (1 + torch.tensor(100.0, dtype=F64) ** (-2 / 3)))


def plain_loops(mdp: LinearMDP, episodes: int, eta: float, scale: float, weight: float, ridge: float, seed: int):
    """The same learner for one process, pair by pair and step by step, on the same random numbers."""
    generator = torch.Generator().manual_seed(seed)
    horizon, states, actions = mdp.shape[1:]
    phi, dim = mdp.features[0], mdp.features.shape[-1]
    P, r, first = mdp.transitions[0], mdp.expected_rewards[0], mdp.first[0]
    gram = [ridge * torch.eye(dim, dtype=F64) for _ in range(horizon)]
    data: list[list[tuple]] = [[] for _ in range(horizon)]
    pi = torch.full((horizon, states, actions), 1 / actions, dtype=F64)
    volume, values, epochs = [-math.inf] * horizon, [], 0

    def index(p, u: float) -> int:
        total = 0.0
        for i, mass in enumerate(p):
            total += float(mass)
            if u < total:
                return i
        return len(p) - 1

    for _ in range(episodes):
        dets = [float(torch.linalg.det(g)) for g in gram]
        if any(d >= 2 * math.exp(v) for d, v in zip(dets, volume, strict=True)):
            volume, epochs = [math.log(d) for d in dets], epochs + 1
            pi = torch.full_like(pi, 1 / actions)
            inverse = [torch.linalg.inv(g) for g in gram]
        v, q = torch.zeros(states, dtype=F64), torch.zeros(horizon, states, actions, dtype=F64)
        exact = torch.zeros(states, dtype=F64)
        for h in reversed(range(horizon)):
            moment = sum((f * (y + (v[t] if h < horizon - 1 else 0.0)) for f, y, t in data[h]), torch.zeros(dim))
            w = torch.linalg.inv(gram[h]) @ moment.to(F64)
            for s in range(states):
                for a in range(actions):
                    norm = float((phi[s, a] @ inverse[h] @ phi[s, a]).sqrt())
                    c = 1 / (1 + math.exp(weight * norm) / episodes)
                    q[h, s, a] = min(max(c * float(phi[s, a] @ w) + scale * c * norm, 0.0), horizon)
            v = (pi[h] * q[h]).sum(-1)
            exact = (pi[h] * (r[h] + P[h] @ exact)).sum(-1)
        values.append(float(first @ exact))
        u = torch.rand(4, 1, horizon, 1, generator=generator, dtype=F64)[:, 0, :, 0]
        state = index(first, float(u[3, 0]))
        for h in range(horizon):
            action = index(pi[h, state], float(u[0, h]))
            following = index(P[h, state, action], float(u[1, h]))
            f = phi[state, action]
            gram[h] = gram[h] + torch.outer(f, f)
            data[h].append((f, float(u[2, h] < r[h, state, action]), following))
            state = following
        pi = pi * (eta * q).exp()
        pi = pi / pi.sum(-1, keepdim=True)
    return pi.log(), values, epochs


@pytest.mark.parametrize("make", [lambda: one_hot_mdp(2, 2, 2), lambda: random_linear_mdp(3, 2, 3, 2, seed=4)])
def test_the_learner_equals_plain_loops(make):
    mdp = make()
    run = contracted_feature_policy_optimization(
        mdp, 25, step_size=0.7, bonus_scale=0.4, contraction=2.5, ridge=0.5, generator=torch.Generator().manual_seed(3)
    )
    logs, values, epochs = plain_loops(mdp, 25, 0.7, 0.4, 2.5, 0.5, 3)
    assert torch.allclose(run.values[:, 0], torch.tensor(values, dtype=F64), atol=1e-10)
    assert torch.allclose(run.log_policy[0], logs, atol=1e-8)
    assert int(run.epochs) == epochs > 2
    assert torch.allclose(run.regret(mdp.value_of())[-1], (mdp.value_of() - run.values).sum(0))


@pytest.mark.parametrize("mdp", [random_linear_mdp(10, 3, 6, 5, batch=2), one_hot_mdp(5, 2, 5, batch=2)])
def test_regret_is_sublinear(mdp):
    run = contracted_feature_policy_optimization(mdp, 2000, generator=torch.Generator().manual_seed(0))
    best = mdp.value_of()
    regret = run.regret(best).mean(-1)
    # A share of 2^(1/2) - 1 = 0.41 of the first half's is what square roots add.
    assert float(regret[-1] - regret[999]) < 0.41 * float(regret[999])
    uniform = 2000 * float((best - mdp.value_of(mdp.uniform_policy())).mean())
    assert float(regret[-1]) < 0.25 * uniform


def test_contraction_of_the_theory_is_slow():
    # The pitfall that the exposed scale is for: factors near zero leave values and the policy flat.
    mdp = one_hot_mdp(batch=2)
    slow, fast = (
        contracted_feature_policy_optimization(mdp, 300, contraction=c, generator=torch.Generator().manual_seed(0))
        for c in (300.0, None)
    )
    assert float(slow.values[-100:].mean()) < float(fast.values[-100:].mean()) - 0.2


def test_bad_linear_processes():
    mdp = one_hot_mdp(2, 2, 2)
    with pytest.raises(ShapeError, match="measures"):
        LinearMDP(mdp.features, mdp.rewards[..., :3], mdp.measures)
    with pytest.raises(DomainError, match="probabilities"):
        LinearMDP(mdp.features, mdp.rewards, 2 * mdp.measures)
    with pytest.raises(DomainError, match=r"\[0, 1\]"):
        LinearMDP(mdp.features, 3 * mdp.rewards, mdp.measures)
    with pytest.raises(DomainError, match="horizon"):
        one_hot_mdp(2, 2, 0)
    for options in ({"step_size": 0.0}, {"ridge": 0.0}, {"bonus_scale": -1.0}, {"contraction": -1.0}):
        with pytest.raises(DomainError, match="at least"):
            contracted_feature_policy_optimization(mdp, 3, **options)
