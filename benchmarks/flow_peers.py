"""Mirror flows beside a loop written by hand, torchcfm and flow_matching: training steps, sampling, couplings.

Rows of peers that are not installed are left out.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.cases import polytope
from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains, mirror_maps
from mirrorgen.flows import Gaussian, MirrorFlow, OptimalTransport
from mirrorgen.nets import MLP

TITLE = "Mirror flow against peers"
NOTES = (
    "all contenders use one network; in training all map the batch to the dual, the peers by the bare formula, and the "
    "ratio is to ours",
    "training step: loss, gradients, clipping, AdamW; error: difference of the losses of the loop and ours, same noise",
    "sampling: 100 evaluations in 50 midpoint steps; bare: the evaluations alone; error: the peer decoded minus ours; "
    "feasible: strictly inside",
    "coupling: error is the mean squared distance of pairs over that of ours, minus 1",
)
KAPPA = 0.3


def built(quick: bool) -> dict[str, tuple[MirrorFlow, Callable[[Tensor], Tensor]]]:
    """Flows and the bare formula of their maps."""
    low = 3 if quick else 10
    body, box = polytope(low, 3 * low), domains.Box(0.0, 1.0, dim=low)
    width = [16] * 4 if quick else [256] * 4
    A, b = (t.float() for t in body.halfspaces())

    def barrier(x: Tensor) -> Tensor:
        return (b - x @ A.mT).pow(-KAPPA) @ A + x

    def logit(x: Tensor) -> Tensor:
        return torch.log(x) - torch.log1p(-x)

    return {
        "polytope": (MirrorFlow(mirror_maps.RegularizedBarrier(body, KAPPA), MLP(low, width), Gaussian()), barrier),
        "box": (MirrorFlow(mirror_maps.BoxEntropy(box), MLP(low, width), Gaussian()), logit),
    }


def steps_of(flow: MirrorFlow, encode: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """One training step of each contender."""
    shift, scale = flow.dual_transform.shift, flow.dual_transform.scale
    optimizer = torch.optim.AdamW(flow.net.parameters(), lr=0.0, fused=True)
    generator = torch.Generator()

    def ours() -> Tensor:
        return flow.loss(x, generator=generator)

    def by_hand() -> Tensor:
        u_1 = (encode(x) - shift) / scale
        u_0 = torch.randn(u_1.shape, generator=generator)
        t = torch.rand(len(x), generator=generator)
        u_t = u_0 + t.unsqueeze(-1) * (u_1 - u_0)
        return (flow.net(u_t, t) - (u_1 - u_0)).square().mean()

    def step(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            generator.manual_seed(0)
            optimizer.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_(flow.net.parameters(), 10.0)
            optimizer.step()
            return value.detach()

        return run

    found = {"mirrorgen": step(ours), "by hand": step(by_hand)}
    if find_spec("torchcfm"):
        from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

        matcher = ConditionalFlowMatcher(sigma=0.0)

        def peer() -> Tensor:
            u_1 = (encode(x) - shift) / scale
            t, u_t, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(u_1), u_1)
            return (flow.net(u_t, t) - velocity).square().mean()

        found["torchcfm"] = step(peer)
    return found


def samplers_of(flow: MirrorFlow, n: int, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Sampling by each contender, from the same noise."""

    def noise() -> Tensor:
        return flow.prior.sample(n, flow.dim, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def bare() -> Tensor:
        u = noise()
        for k in range(2 * steps):
            flow.net(u, 0.5 * k / steps)
        return u

    found = {
        "mirrorgen": lambda: flow.sample(n, steps=steps, generator=torch.Generator().manual_seed(0)),
        "bare network evaluations": bare,
    }
    if find_spec("flow_matching"):
        from flow_matching.solver import ODESolver

        solver = ODESolver(velocity_model=lambda x, t: flow.net(x, t))

        def solved() -> Tensor:
            return solver.sample(noise(), step_size=1 / steps, method="midpoint")

        found["flow_matching, without a map"] = solved
        found["flow_matching, and our decoding"] = lambda: flow.decode(solved())
    return found


def rows_of(name: str, flow: MirrorFlow, encode: Callable[[Tensor], Tensor], quick: bool) -> list[Row]:
    """Training and sampling on one domain."""
    batch, n, steps, groups = (8, 16, 2, 1) if quick else (256, 4096, 50, 5)
    generator = torch.Generator().manual_seed(4)
    x = flow.domain.sample_uniform(batch, generator=generator, dtype=torch.float32)
    flow.fit_dual_transform(x)
    training = steps_of(flow, encode, x)
    difference = abs(float(training["by hand"]()) - float(training["mirrorgen"]()))
    seconds = interleaved(training, groups, 1 if quick else 15)
    remark = "time of ours over it"
    rows = []
    for k, s in seconds.items():
        error = difference if k == "by hand" else None
        ratio = seconds["mirrorgen"] / s
        rows.append(Row(name, "training step", k, "float32", f"{batch}x{flow.dim}", s, ratio, error, None, remark))
    sampling = samplers_of(flow, n, steps)
    ours = sampling["mirrorgen"]()
    inside = float(flow.domain.contains(ours).double().mean())
    seconds = interleaved(sampling, 1 if quick else 3, 1)
    for k, s in seconds.items():
        error = float((sampling[k]() - ours).abs().max()) if "decoding" in k else None
        share, ratio = inside if k == "mirrorgen" else None, seconds["mirrorgen"] / s
        rows.append(Row(name, "sample", k, "float32", f"{n}x{flow.dim}", s, ratio, error, share, remark))
    return rows


def couplings(quick: bool) -> list[Row]:
    """Exact optimal transport within a batch."""
    rows = []
    for n in (16,) if quick else (256, 512, 1024, 2048):
        x_0, x_1 = torch.randn(2, n, 10, generator=torch.Generator().manual_seed(n)).unbind()
        pairs = {"mirrorgen": lambda a, b: (OptimalTransport()(a, b), b)}
        if find_spec("torchcfm"):
            from torchcfm.optimal_transport import OTPlanSampler

            pairs["torchcfm"] = OTPlanSampler("exact").sample_plan
        contenders = {k: partial(pair, x_0, x_1) for k, pair in pairs.items()}
        ends = {k: f() for k, f in contenders.items()}
        cost = {k: float((a - b).square().sum(-1).mean()) for k, (a, b) in ends.items()}
        seconds = interleaved(contenders, 1 if quick else 3, 1 if n > 512 else 3)
        for k, s in seconds.items():
            error, ratio = cost[k] / cost["mirrorgen"] - 1, seconds["mirrorgen"] / s
            remark = "time of ours over it"
            rows.append(Row("coupling", "exact transport", k, "float32", f"{n}x10", s, ratio, error, None, remark))
    return rows


def run(quick: bool = False) -> list[Row]:
    """A polytope, a box, and couplings."""
    torch.manual_seed(0)
    rows = []
    for name, (flow, encode) in built(quick).items():
        rows += rows_of(name, flow, encode, quick)
    return rows + couplings(quick)
