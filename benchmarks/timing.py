"""Timing of competitors in turn within one process, so that a noisy machine disturbs all of them alike."""

import statistics
import time
from collections.abc import Callable

import torch

GROUPS, CALLS = 5, 5


def clock() -> Callable[[], float]:
    """CPU time of this thread where torch has no other, which a busy machine hardly disturbs; else wall time."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def interleaved(
    competitors: dict[str, Callable[[], object]], groups: int = GROUPS, calls: int = CALLS
) -> dict[str, float]:
    """Seconds per call of every competitor: the smallest, over groups, of the median within a group.

    In every round each competitor runs once; the first round warms up and is not counted.
    """
    now = clock()
    for function in competitors.values():
        function()
    best = dict.fromkeys(competitors, float("inf"))
    for _ in range(groups):
        times: dict[str, list[float]] = {name: [] for name in competitors}
        for _ in range(calls):
            for name, function in competitors.items():
                start = now()
                function()
                times[name].append(now() - start)
        best = {name: min(best[name], statistics.median(times[name])) for name in competitors}
    return best
