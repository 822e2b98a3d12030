"""A table of what a run found and how well."""

from dataclasses import dataclass

from torch import Tensor

from mirrorgen.metrics.chain_statistics import in_blocks, quantile
from mirrorgen.metrics.ess import effective_sample_size, mcse
from mirrorgen.metrics.feasibility import FeasibilityReport, feasibility
from mirrorgen.metrics.rhat import rhat
from mirrorgen.numerics import upcast
from mirrorgen.samplers.base import Kernel

__all__ = ["Summary", "summarize"]

# Tables with more coordinates show the first ones and those that are known worst.
_ALL, _FIRST, _WORST = 16, 6, 6


@dataclass(frozen=True, eq=False)
class Summary:
    """Moments, quantiles and their reliability, one float64 entry per coordinate; prints as a table.

    Attributes:
        mean: Means ``(dim,)``.
        sd: Standard deviations.
        mcse: Standard errors of the means.
        q5: 5% quantiles.
        q95: 95% quantiles.
        ess_bulk: Effective sample sizes for location.
        ess_tail: Effective sample sizes for the 5% and 95% quantiles, the smaller one.
        rhat: Rank-normalised split R-hat.
        draws: Draws per chain.
        chains: Number of chains.
        kernel: Class of the sampler.
        acceptance: Mean acceptance probability.
        stuck: Number of chains that never moved.
        nonfinite: Number of proposals that were rejected because a value was not finite.
        feasibility: How many draws are strictly inside in their own dtype.
        interacting: Whether the chains are particles that move each other; moments are those of the last draw then,
            and what compares chains is NaN.
    """

    mean: Tensor
    sd: Tensor
    mcse: Tensor
    q5: Tensor
    q95: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    rhat: Tensor
    draws: int
    chains: int
    kernel: str
    acceptance: float
    stuck: int
    nonfinite: int
    feasibility: FeasibilityReport
    interacting: bool = False

    def __str__(self) -> str:
        dim = len(self.mean)
        shown = self._shown(dim)
        rows = [["", "mean", "sd", "mcse", "5%", "95%", "ess_bulk", "ess_tail", "rhat"], *map(self._row, shown)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        if len(shown) < dim:
            lines.append(f"... {dim - len(shown)} more coordinates; shown are the first and those of least ess_bulk")
        return "\n".join([self._title(dim), *lines, self._foot()])

    def _shown(self, dim: int) -> list[int]:
        if dim <= _ALL:
            return list(range(dim))
        # NaN, a coordinate that never moved, comes first.
        worst = self.ess_bulk.nan_to_num(-1).argsort()[:_WORST].tolist()
        return sorted({*range(_FIRST), *worst})

    def _row(self, i: int) -> list[str]:
        values = [f"{float(v[i]):.4g}" for v in (self.mean, self.sd, self.mcse, self.q5, self.q95)]
        return [f"x[{i}]", *values, *(f"{float(v[i]):.0f}" for v in (self.ess_bulk, self.ess_tail)), _r(self.rhat[i])]

    def _title(self, dim: int) -> str:
        draws, chains = _count(self.draws, "draw"), _count(self.chains, "chain")
        size = f"{self.chains} particles after {draws}" if self.interacting else f"{chains} of {draws}"
        return f"{self.kernel}: {size}, {dim} coordinates"

    def _foot(self) -> str:
        stuck = f", {_count(self.stuck, 'chain')} never moved" if self.stuck else ""
        proposals = _count(self.nonfinite, "proposal")
        return f"acceptance {self.acceptance:.3f}{stuck}; {proposals} not finite; {self.feasibility}"


def summarize(positions: Tensor, stats: dict[str, Tensor], kernel: Kernel) -> Summary:
    """The summary of draws ``(draws, chains, dim)`` with the statistics that the runner records."""
    draws, every = len(positions), positions
    positions = positions[-1:] if kernel.interacting else positions
    moments = {
        "mean": in_blocks(lambda x: x.mean((1, 2)), positions),
        "sd": in_blocks(lambda x: x.flatten(1).std(-1), positions),
        "q5": in_blocks(lambda x: quantile(x, 0.05), positions),
        "q95": in_blocks(lambda x: quantile(x, 0.95), positions),
    }
    return Summary(
        **{name: value.cpu() for name, value in moments.items()},
        mcse=mcse(positions).cpu(),
        ess_bulk=effective_sample_size(positions).cpu(),
        ess_tail=effective_sample_size(positions, "tail").cpu(),
        rhat=rhat(positions).cpu(),
        draws=draws,
        chains=positions.shape[1],
        kernel=kernel.name,
        acceptance=float(upcast(stats["acceptance"]).mean()),
        stuck=int((stats["accepted"].amax(0) == 0).sum()),
        nonfinite=int(upcast(stats["nonfinite"]).sum()),
        feasibility=feasibility(kernel.domain, every),
        interacting=kernel.interacting,
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _r(value: Tensor) -> str:
    return f"{float(value):.3f}"
