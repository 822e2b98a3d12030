"""Mirror Sinkhorn: its energy identity, its bounds, its equivalence to annealed Sinkhorn, and its options."""

import pytest
import torch
from torch.autograd import gradcheck

from mirrorgen.errors import ConvergenceError, DomainError, ShapeError
from mirrorgen.transport import (
    duality_gap,
    exact_plan,
    log_spread,
    marginal_error,
    mirror_sinkhorn,
    round_to_polytope,
    sinkhorn,
)
from tests.transport.problems import F64, clouds, divergence, noise


def noisy(cost, generator):
    """An unbiased gradient with entries in [0, 1]: those of the cost or of its mirror image, by a coin for each."""

    def gradient(plan):
        return (torch.rand(cost.shape, generator=generator, dtype=F64) < cost).to(F64)

    return gradient


def identity_gap(record, result, mu, nu, comparator):
    """What the sides of the energy identity ``sum_t eta <g, P_t - P*> = ...`` differ by, over the left one."""
    left = right = 0.0
    plans = [s.plan for s in record[1:]] + [result.plan]
    for k, (step, after) in enumerate(zip(record, plans, strict=True)):
        eta, g, plan = float(step.step_size), step.gradient, step.plan
        moved = plan * torch.exp(-eta * g)
        left += eta * float((g * (plan - comparator)).sum())
        right += eta * float((g * plan).sum()) + float(moved.sum() - plan.sum())
        wanted, sums = (mu, moved.sum(-1)) if k % 2 == 0 else (nu, moved.sum(-2))
        assert torch.allclose(after.sum(-1 if k % 2 == 0 else -2), wanted, rtol=1e-12, atol=0)
        right -= float((wanted * (wanted / sums).log() - wanted + sums).sum())
    right += float(divergence(comparator, record[0].plan) - divergence(comparator, result.plan))
    return abs(left - right) / abs(left)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("schedule", ["sqrt", "constant"])
def test_energy_identity(stochastic, schedule):
    cost, mu, nu = clouds(n=12, m=9)
    comparator = exact_plan(cost, mu, nu).plan
    objective = noisy(cost, torch.Generator().manual_seed(3)) if stochastic else cost
    record = []
    result = mirror_sinkhorn(objective, mu, nu, steps=60, schedule=schedule, bound=1.0, callback=record.append)
    assert [s.number for s in record] == list(range(1, 61))
    assert identity_gap(record, result, mu, nu, comparator) < 1e-12


@pytest.mark.parametrize("steps", [100, 1000, 4000])
@pytest.mark.parametrize("stochastic", [False, True])
def test_average_keeps_the_bound(steps, stochastic):
    cost, mu, nu = clouds(n=20)
    objective = noisy(cost, torch.Generator().manual_seed(0)) if stochastic else cost
    best, etas, excess = exact_plan(cost, mu, nu).plan, [], []

    def look(step):
        etas.append(float(step.step_size))
        excess.append(etas[-1] * float((step.gradient * (step.plan - best)).sum()))

    result = mirror_sinkhorn(objective, mu, nu, steps=steps, bound=1.0, average="eta", callback=look)
    entropy = float(divergence(best, mu[:, None] * nu))
    bound = (entropy + 0.5 * sum(e * e for e in etas)) / sum(etas)
    assert sum(excess) / sum(etas) <= bound
    if not stochastic:
        assert float(((result.plan - best) * cost).sum()) <= bound


@pytest.mark.parametrize("steps", [100, 1000, 4000])
def test_uniform_average_violates_marginals_by_the_root_of_steps(steps):
    cost, mu, nu = clouds(n=60)
    plan = mirror_sinkhorn(cost, mu, nu, steps=steps, average="uniform").plan
    violation = max(float((plan.sum(-1) - mu).abs().sum()), float((plan.sum(-2) - nu).abs().sum()))
    assert violation <= 0.3 * (float(log_spread((mu, nu))) / steps) ** 0.5


def test_bound_of_the_entropy_in_the_theory():
    cost, mu, nu = clouds(n=20)
    best = exact_plan(cost, mu, nu).plan
    least_entropy = min(-float((w * w.log()).sum()) for w in (mu, nu))
    assert float(divergence(best, mu[:, None] * nu)) <= least_entropy <= float(log_spread((mu, nu)))


def test_linear_objective_is_sinkhorn_at_the_temperature_of_the_steps():
    cost, mu, nu = clouds(2, n=10, m=14)
    steps = mirror_sinkhorn(cost, mu, nu, steps=4, schedule="constant", step_size=5.0, half_steps=400)
    torch.testing.assert_close(
        steps.plan, sinkhorn(cost, mu, nu, epsilon=1 / 20, tolerance=1e-13).plan, rtol=0, atol=1e-12
    )
    f, g = steps.potentials
    form = torch.exp(20 * (f[..., :, None] + g[..., None, :] - cost))
    torch.testing.assert_close(form, steps.plan, rtol=1e-11, atol=0)
    torch.testing.assert_close(steps.log_plan.exp(), steps.plan, rtol=1e-11, atol=0)


def test_annealed_steps_double_the_inverse_temperature():
    cost, mu, nu = clouds(n=20)
    sizes = []
    options = {"schedule": "anneal", "steps": 6, "half_steps": 4000, "step_size": 8.0}
    r = mirror_sinkhorn(cost, mu, nu, callback=lambda s: sizes.append(float(s.step_size)), **options)
    assert sizes == [8.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    torch.testing.assert_close(r.plan, sinkhorn(cost, mu, nu, epsilon=1 / 256).plan, rtol=0, atol=1e-8)
    assert duality_gap(cost, r.plan, r.potentials[0], mu, nu) < 5e-3


@pytest.mark.parametrize("half_steps", [2, 3, 20])
def test_absorbed_half_steps_are_those_of_logarithms(half_steps, monkeypatch):
    cost, mu, nu = clouds(2, n=10, m=7)
    options = {"steps": 5, "half_steps": half_steps, "schedule": "constant", "step_size": 3.0}
    fast = mirror_sinkhorn(cost, mu, nu, **options)
    monkeypatch.setattr("mirrorgen.transport.mirror_descent.within_range", lambda *_: False)
    slow = mirror_sinkhorn(cost, mu, nu, **options)
    torch.testing.assert_close(fast.plan, slow.plan, rtol=1e-11, atol=0)
    torch.testing.assert_close(fast.log_plan, slow.log_plan, rtol=0, atol=1e-11)
    for a, b in zip(fast.potentials, slow.potentials, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_runs_continue_from_their_logarithm():
    cost, mu, nu = clouds(n=8)
    whole = mirror_sinkhorn(cost, mu, nu, steps=10, schedule="constant", step_size=2.0)
    half = mirror_sinkhorn(cost, mu, nu, steps=4, schedule="constant", step_size=2.0)
    rest = mirror_sinkhorn(cost, mu, nu, steps=6, schedule="constant", step_size=2.0, start=half.log_plan)
    torch.testing.assert_close(rest.plan, whole.plan, rtol=1e-12, atol=0)


def test_batches_come_from_the_start_or_from_marginals():
    cost, mu, nu = clouds(3, n=8)
    options = {"steps": 6, "bound": 1.0, "half_steps": 2}
    start = torch.zeros(3, 8, 8, dtype=F64)
    batch = mirror_sinkhorn(lambda p: cost + p, mu[0], nu, start=start, **options)
    for k in range(3):
        one = mirror_sinkhorn(lambda p, k=k: cost[k] + p, mu[0], nu[k], start=start[k], **options)
        torch.testing.assert_close(batch.plan[k], one.plan, rtol=1e-12, atol=0)
        torch.testing.assert_close(batch.potentials[0][k], one.potentials[0], rtol=1e-12, atol=1e-14)
    with pytest.raises(ShapeError, match="a larger batch comes from marginals or start"):
        mirror_sinkhorn(lambda p: cost + p, mu[0], nu[0], **options)


def test_forbidden_entries_stay_zero():
    cost, mu, nu = clouds(n=6)
    start = torch.zeros(6, 6, dtype=F64)
    start[0, 3:] = -torch.inf
    r = mirror_sinkhorn(cost, mu, nu, steps=200, start=start, half_steps=4, average="uniform")
    assert (r.plan[0, 3:] == 0).all()
    assert torch.isfinite(r.plan).all()


def test_state_returns_from_where_plans_underflow():
    cost, mu, nu = clouds(n=15)
    lowest = []

    def there_and_back(plan):
        lowest.append(float(plan.amin()))
        return cost if len(lowest) == 1 else -cost

    r = mirror_sinkhorn(there_and_back, mu, nu, steps=2, schedule="constant", step_size=2000.0, half_steps=60)
    assert lowest[1] == 0
    torch.testing.assert_close(r.plan, mu[:, None] * nu, rtol=1e-9, atol=0)


def test_quadratic_objective_reaches_the_optimum_with_relatively_smooth_steps():
    cost, mu, nu = clouds(n=30)
    weight = 0.2 * 30
    best = None
    for half_steps in (1, 50):
        r = mirror_sinkhorn(
            lambda p: cost + weight * p, mu, nu, steps=400, schedule="constant", step_size=5.0, half_steps=half_steps
        )
        plan = round_to_polytope(r.plan, mu, nu)
        # The gap of Frank and Wolfe bounds what is left to gain.
        gradient = cost + weight * plan
        gap = float((gradient * plan).sum()) - float((gradient * exact_plan(gradient, mu, nu).plan).sum())
        value = float((cost * plan).sum() + weight / 2 * plan.square().sum())
        assert best is None or (value < best and gap < 2e-2 * value)
        best = value


def test_three_marginals():
    weights = [torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=F64) + 0.2 for n in (3, 4, 5)]
    weights = [w / w.sum() for w in weights]
    cost = noise(2, 3, 4, 5).abs()
    r = mirror_sinkhorn(cost, *weights, steps=10, schedule="constant", step_size=0.2, half_steps=90)
    assert (r.error < 1e-10).all()
    a, b, c = r.potentials
    form = torch.exp(2 * (a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :] - cost))
    torch.testing.assert_close(form, r.plan, rtol=1e-10, atol=0)
    # A cost of the first two axes only leaves the third independent of them.
    flat = cost[0, :, :, :1].expand(3, 4, 5)
    options = {"steps": 10, "schedule": "constant", "step_size": 0.2, "half_steps": 90}
    joint = mirror_sinkhorn(flat, *weights, **options).plan
    pair = mirror_sinkhorn(flat[..., 0], *weights[:2], **options).plan
    torch.testing.assert_close(joint, pair[..., None] * weights[2], rtol=0, atol=1e-12)


def test_averages():
    cost, mu, nu = clouds(n=6)
    record = []
    options = {"steps": 5, "schedule": lambda t: 1.0 / t}
    mirror_sinkhorn(cost, mu, nu, callback=record.append, **options)
    plans, etas = torch.stack([s.plan for s in record]), torch.tensor([1 / t for t in range(1, 6)], dtype=F64)
    uniform = mirror_sinkhorn(cost, mu, nu, average="uniform", **options).plan
    weighted = mirror_sinkhorn(cost, mu, nu, average="eta", **options).plan
    torch.testing.assert_close(uniform, plans.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(weighted, (etas[:, None, None] * plans).sum(0) / etas.sum(), rtol=1e-13, atol=0)


def test_derivatives_go_through_the_iteration():
    cost, a, b = (noise(*s, seed=k).requires_grad_() for k, s in enumerate([(3, 2), (3,), (2,)]))

    def run(c, x, y, half_steps):
        r = mirror_sinkhorn(
            lambda p: c + p, x.softmax(-1), y.softmax(-1), steps=3, bound=1.0, half_steps=half_steps, average="eta"
        )
        return r.plan, r.log_plan, *r.potentials

    for half_steps in (1, 3):
        assert gradcheck(lambda *t, k=half_steps: run(*t, k), (cost, a, b))


def test_float32_works_in_float32():
    cost, mu, nu = clouds(3, n=20)
    exact = mirror_sinkhorn(cost, mu, nu, steps=300)
    r = mirror_sinkhorn(cost.float(), mu.float(), nu.float(), steps=300)
    assert r.plan.dtype == r.error.dtype == torch.float32
    torch.testing.assert_close(r.plan.double(), exact.plan, rtol=0, atol=2e-6)
    torch.testing.assert_close(r.error, marginal_error(r.plan, mu.float(), nu.float()))


GOOD = {"steps": 3, "bound": 1.0}


@pytest.mark.parametrize(
    ("objective", "marginals", "change", "error", "words"),
    [
        (torch.rand(3, 4), [torch.ones(3) / 3], {}, ShapeError, "at least two marginals"),
        (torch.rand(3, 5), [torch.ones(3) / 3, torch.ones(4) / 4], {}, ShapeError, "broadcast"),
        (
            torch.rand(1, 1, 1),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {"start": torch.zeros(2, 3)},
            ShapeError,
            "broadcast",
        ),
        (torch.rand(3, 4), [torch.ones(3) / 3, torch.ones(4)], {}, DomainError, "same total mass"),
        (torch.rand(3, 4), [torch.tensor([0.5, 0.5, 0.0]), torch.ones(4) / 4], {}, DomainError, "without mass"),
        (
            lambda p: p.sum(),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {},
            ShapeError,
            "gradient of the shape of the plan",
        ),
        (lambda p: p * torch.nan, [torch.ones(3) / 3, torch.ones(4) / 4], {}, ConvergenceError, "gradient was NaN"),
        (torch.rand(3, 4), [torch.ones(3) / 3, torch.ones(4) / 4], {"steps": 0}, DomainError, "steps"),
        (torch.rand(3, 4), [torch.ones(3) / 3, torch.ones(4) / 4], {"half_steps": 0}, DomainError, "half_steps"),
        (
            torch.rand(3, 4),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {"average": "mean"},
            DomainError,
            "last, uniform, eta",
        ),
        (torch.rand(3, 4), [torch.ones(3) / 3, torch.ones(4) / 4], {"schedule": "slow"}, DomainError, "sqrt, constant"),
        (
            torch.rand(3, 4),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {"step_size": -1.0},
            DomainError,
            "step_size must be",
        ),
        (
            torch.rand(3, 4),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {"bound": 0.0},
            DomainError,
            "bound must be positive",
        ),
        (
            torch.rand(3, 4),
            [torch.ones(3) / 3, torch.ones(4) / 4],
            {"schedule": lambda t: 1.0, "step_size": 1.0},
            DomainError,
            "step_size must be None",
        ),
    ],
)
def test_bad_input(objective, marginals, change, error, words):
    with pytest.raises(error, match=words):
        mirror_sinkhorn(objective, *marginals, **(GOOD | change))
