"""What was asked of the samplers before they were measured, and whether the rows of the study meet it."""

from collections.abc import Iterator

from benchmarks.samplers.scoring import SamplerRow

SIMPLEX, LARGE_CUBE, SMALL_CUBE = "Dirichlet(4) K=21", "uniform 50-cube", "uniform 10-cube"
OURS = "MirroredHMC"


def best(
    rows: list[SamplerRow], problem: str, contender: str, chains: int | None = None, of: str = "ess_per_second"
) -> float | None:
    """The best speed of the contenders whose names begin so; None without any."""
    return max(
        (
            getattr(row, of)
            for row in rows
            if row.problem == problem and row.contender.startswith(contender) and chains in (None, row.chains)
        ),
        default=None,
    )


def verdicts(rows: list[SamplerRow]) -> Iterator[str]:
    """A line per bar: what was measured, what was asked, met or not; bars whose rows are missing are left out."""
    for problem, asked in ((SIMPLEX, 5e5), (LARGE_CUBE, 3e5)):
        value = best(rows, problem, OURS)
        if value is not None:
            yield _line(f"{OURS}, {problem}, effective samples per second", value, asked)
    for problem in (SIMPLEX, LARGE_CUBE):
        yield from _ratio(rows, problem, OURS, "blackjax NUTS", 5)
        yield from _ratio(rows, problem, OURS, "blackjax NUTS", 5, of="spread_per_second")
    for problem in (SMALL_CUBE, LARGE_CUBE):
        yield from _ratio(rows, problem, OURS, "hopsy", 10)
        yield from _ratio(rows, problem, "CoordinateHitAndRun", "hopsy", 10)
    for problem in (SIMPLEX, LARGE_CUBE):
        for chains in (4, 256, 1024):
            yield from _ratio(rows, problem, OURS, "blackjax static HMC", 1, chains)


def _ratio(
    rows: list[SamplerRow], problem: str, ours: str, peer: str, asked: float, chains: int | None = None,
    of: str = "ess_per_second",
) -> Iterator[str]:  # fmt: skip
    mine, theirs = (best(rows, problem, name, chains, of) for name in (ours, peer))
    if mine is not None and theirs is not None:
        where = problem if chains is None else f"{problem}, {chains} chains"
        where += ", spread" if of == "spread_per_second" else ""
        yield _line(f"{ours} over the best of {peer}, {where}", mine / theirs, asked)


def _line(what: str, value: float, asked: float) -> str:
    return f"asked: {what}: {value:.3g}, at least {asked:g}: {'met' if value >= asked else 'not met'}"
