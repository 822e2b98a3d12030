"""Transport: batches against a loop over POT, precise plans against annealed solvers, and a quadratic objective."""

from collections.abc import Callable
from functools import partial

import ot
import torch
from torch import Tensor

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import transport

TITLE = "Transport: batches of entropic plans, linear programmes by annealing, a quadratic objective"
NOTES = (
    "costs: squared distances of normal points in the plane over their largest, or uniform in [0, 1]; epsilon as given",
    "plans: all problems in one call, or one after another; ours to marginals within 1e-10 in the 1-norm,"
    " POT's to 1e-11 in the 2-norm, its own measure; error:"
    " largest entry of the difference to plans by the log-domain method of POT, over the largest entry",
    "derivatives: plans and the derivative of a linear function of them with respect to costs; POT's own are"
    " those of its iterations, on torch tensors",
    "precise plans: error is the relative gap of the rounded plan to the linear programme's value",
    "quadratic: <C, P> + 0.1 n |P|^2; error is the relative gap of the rounded plan to 200 iterations of ot.optim.cg",
    "ratio: seconds over those of the yardstick in the remark, timed in turn; feasible: share of rounded plans whose"
    " marginals hold to 1e-12",
)
F64 = torch.float64
Solve = Callable[[], Tensor]


def clouds(*batch: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Costs between normal clouds of two laws, and weights of Dirichlet's law with parameter five."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x, y = torch.randn(2, *batch, n, 2, dtype=F64).unbind(0)
        cost = torch.cdist(x, 0.7 * y + 1).square()
        weights = torch.distributions.Dirichlet(torch.full((n,), 5.0, dtype=F64))
        mu, nu = weights.sample(torch.Size(batch)), weights.sample(torch.Size(batch))
    return cost / cost.amax((-2, -1), keepdim=True), mu, nu


def uniform(*batch: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Independent costs, and the weights of ``clouds``."""
    _, mu, nu = clouds(*batch, n=n)
    return torch.rand(*batch, n, n, dtype=F64, generator=torch.Generator().manual_seed(1)), mu, nu


def loop(cost: Tensor, mu: Tensor, nu: Tensor, epsilon: float, threshold: float, method: str = "sinkhorn") -> Tensor:
    """POT's Sinkhorn on one problem after another."""
    arrays = zip(cost.numpy(), mu.numpy(), nu.numpy(), strict=True)
    options = {"stopThr": threshold, "numItermax": 100_000, "warn": False, "method": method}
    return torch.stack([torch.as_tensor(ot.sinkhorn(a, b, c, epsilon, **options)) for c, a, b in arrays])


def together(cost: Tensor, mu: Tensor, nu: Tensor, epsilon: float) -> Tensor:
    """POT's own batched solver, in the log domain."""
    options = {"max_iter": 100_000, "tol": 1e-11, "grad": "detach"}
    return torch.as_tensor(ot.batch.solve_batch(cost, epsilon, mu, nu, **options).plan)


def rows_of(
    name: str, operation: str, shape: str, timed: dict[str, float], errors: dict[str, float], yardstick: str,
    feasible: float | None = None,
) -> list[Row]:  # fmt: skip
    return [
        Row(name, operation, label, "float64", shape, t, t / timed[yardstick], errors[label], feasible, yardstick)
        for label, t in timed.items()
    ]


def batches(name: str, problems: tuple[Tensor, Tensor, Tensor], epsilon: float, quick: bool) -> list[Row]:
    """One call against a loop."""
    cost, mu, nu = problems
    reference = loop(cost, mu, nu, epsilon, 1e-13, "sinkhorn_log")
    solvers: dict[str, Solve] = {"POT, loop": partial(loop, cost, mu, nu, epsilon, 1e-11)}
    for method in ("newton", "absorbed", "log"):
        solvers[f"ours, {method}"] = partial(_plan, cost, mu, nu, epsilon, method)
    if hasattr(ot, "batch") and epsilon >= 0.01:  # Below, it takes minutes.
        solvers["POT, batch"] = partial(together, cost, mu, nu, epsilon)
    errors = {k: float((f() - reference).abs().amax() / reference.amax()) for k, f in solvers.items()}
    timed = interleaved(solvers, *((1, 1) if quick else (2, 3)))
    shape = "x".join(map(str, cost.shape))
    return rows_of(f"{name}, epsilon {epsilon:g}", "plans", shape, timed, errors, "POT, loop")


def _plan(cost: Tensor, mu: Tensor, nu: Tensor, epsilon: float, method: str) -> Tensor:
    return transport.sinkhorn(cost, mu, nu, epsilon=epsilon, tolerance=1e-10, method=method, max_iterations=10**6).plan


def derivatives(problems: tuple[Tensor, Tensor, Tensor], epsilon: float, quick: bool) -> list[Row]:
    """Plans and one backward pass."""
    cost, mu, nu = problems
    weights = torch.rand(cost.shape, generator=torch.Generator().manual_seed(2), dtype=F64)

    def ours() -> Tensor:
        c = cost.clone().requires_grad_()
        plan = transport.sinkhorn(c, mu, nu, epsilon=epsilon, tolerance=1e-11).plan
        return torch.autograd.grad((plan * weights).sum(), c)[0]

    def unrolled() -> Tensor:
        slopes = []
        for c, a, b, w in zip(cost, mu, nu, weights, strict=True):
            c = c.clone().requires_grad_()
            plan = ot.sinkhorn(a, b, c, epsilon, stopThr=1e-11, numItermax=100_000, warn=False)
            slopes.append(torch.autograd.grad((plan * w).sum(), c)[0])
        return torch.stack(slopes)

    c = cost.clone().requires_grad_()
    plan = transport.sinkhorn(c, mu, nu, epsilon=epsilon, tolerance=1e-13, method="log", max_iterations=10**6).plan
    (exact,) = torch.autograd.grad((plan * weights).sum(), c)
    solvers: dict[str, Solve] = {"POT, loop": unrolled, "ours": ours}
    errors = {k: float((f() - exact).abs().amax() / exact.abs().amax()) for k, f in solvers.items()}
    timed = interleaved(solvers, 1, 1 if quick else 2)
    shape = "x".join(map(str, cost.shape))
    return rows_of(f"clouds, epsilon {epsilon:g}", "derivatives", shape, timed, errors, "POT, loop")


def precise(n: int, quick: bool) -> list[Row]:
    """Rounded plans at small regularisation, and POT's at the same gap."""
    cost, mu, nu = clouds(n=n)
    optimum = float((transport.exact_plan(cost, mu, nu).plan * cost).sum())

    def ours(epsilon: float, method: str) -> Tensor:
        options = {"tolerance": 1e-3, "method": method, "max_iterations": 10**5}
        return transport.sinkhorn(cost, mu, nu, epsilon=epsilon, **options).plan

    def theirs(epsilon: float) -> Tensor:
        return loop(cost[None], mu[None], nu[None], epsilon, 1e-6)[0]

    solvers: dict[str, Solve] = {"ot.emd": lambda: transport.exact_plan(cost, mu, nu).plan}
    for epsilon in (1e-2, 2e-3):
        solvers[f"ot.sinkhorn, epsilon {epsilon:g}"] = partial(theirs, epsilon)
        solvers[f"ours, epsilon {epsilon:g}"] = partial(ours, epsilon, "newton")
    for method in ("newton", "absorbed"):
        solvers[f"ours, {method}, epsilon 1/4096"] = partial(ours, 1 / 4096, method)
    try:
        from mdot_tnt import solve_OT
    except ImportError:
        print("mdot-tnt is not installed: its row is left out")
    else:
        solvers["mdot-tnt, gamma 4096"] = lambda: solve_OT(mu, nu, cost, gamma_f=4096, return_plan=True)
    rounded = {k: transport.round_to_polytope(f(), mu, nu) for k, f in solvers.items()}
    errors = {k: float((p * cost).sum()) / optimum - 1 for k, p in rounded.items()}
    good = sum(float(transport.marginal_error(p, mu, nu)) < 1e-12 for p in rounded.values()) / len(rounded)
    timed = interleaved(solvers, 1, 1 if quick else 2)
    return rows_of("clouds", "precise plans", f"{n}x{n}", timed, errors, "ot.emd", good)


def quadratic(n: int, quick: bool) -> list[Row]:
    """Mirror Sinkhorn against Frank and Wolfe's method."""
    cost, mu, nu = clouds(n=n)
    weight = 0.2 * n

    def value(plan: Tensor) -> float:
        return float((cost * plan).sum() + weight / 2 * plan.square().sum())

    def theirs(iterations: int) -> Tensor:
        parts = (mu.numpy(), nu.numpy(), cost.numpy(), weight / 2, lambda g: (g**2).sum(), lambda g: 2 * g)
        return torch.as_tensor(ot.optim.cg(*parts, numItermax=iterations, stopThr=0, stopThr2=0))

    def ours(steps: int, **options: object) -> Tensor:
        return transport.mirror_sinkhorn(lambda p: cost + weight * p, mu, nu, steps=steps, **options).plan

    smooth = {"schedule": "constant", "step_size": 5.0}  # One over the smoothness relative to the entropy.
    long = 10 if quick else 200
    best = value(theirs(long))
    solvers: dict[str, Solve] = {f"ot.optim.cg, {k} iterations": partial(theirs, k) for k in (10, 25, 50)}
    solvers["ours, sqrt steps, 300"] = partial(ours, 300)
    for half_steps, steps in ((4, 100), (20, 100), (50, 60)):
        label = f"ours, constant steps, {steps}, {half_steps} half steps"
        solvers[label] = partial(ours, steps, half_steps=half_steps, **smooth)
    rounded = {k: transport.round_to_polytope(f(), mu, nu) for k, f in solvers.items()}
    errors = {k: value(p) / best - 1 for k, p in rounded.items()}
    good = sum(float(transport.marginal_error(p, mu, nu)) < 1e-12 for p in rounded.values()) / len(rounded)
    timed = interleaved(solvers, 1, 1)
    return rows_of("clouds", "quadratic", f"{n}x{n}", timed, errors, "ot.optim.cg, 25 iterations", good)


@torch.no_grad()
def run(quick: bool = False) -> list[Row]:
    """Batches at four strengths of regularisation, their derivatives, precise plans, a quadratic objective."""
    count, n = (3, 8) if quick else (64, 64)
    rows = []
    for epsilon in (0.1, 0.05, 0.02, 0.01, 0.002):
        rows += batches("clouds", clouds(count, n=n), epsilon, quick)
    for epsilon in (0.1, 0.02):
        rows += batches("uniform", uniform(count, n=n), epsilon, quick)
    with torch.enable_grad():
        rows += derivatives(clouds(count, n=n), 0.05, quick)
    for size in (30,) if quick else (500, 1000):
        rows += precise(size, quick)
    return rows + quadratic(20 if quick else 500, quick)
