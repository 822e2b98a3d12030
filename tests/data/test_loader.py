"""Batches: every entry once per pass, resumable anywhere, sharded without overlap."""

import itertools

import pytest
import torch

from mirrorgen.data import TensorLoader
from mirrorgen.errors import DomainError, ShapeError

N = 23
INDEX = torch.arange(N)
POINTS = torch.arange(N, dtype=torch.float32)[:, None]


def loader(**options) -> TensorLoader:
    return TensorLoader((POINTS, INDEX), 5, **options)


def drawn(batches) -> list[int]:
    return [int(i) for batch in batches for i in batch[1]]


def test_ordered_pass_covers_everything_once() -> None:
    batches = list(loader())
    assert [len(b[0]) for b in batches] == [5, 5, 5, 5, 3]
    assert drawn(batches) == list(range(N))


def test_shuffled_stream_is_a_sequence_of_permutations() -> None:
    stream = loader(shuffle=True, batches=23)
    entries = drawn(stream)
    assert len(entries) == 5 * N
    passes = [entries[i : i + N] for i in range(0, 5 * N, N)]
    assert all(sorted(p) == list(range(N)) for p in passes)
    assert len({tuple(p) for p in passes}) == 5
    assert all(len(b[0]) == 5 for b in stream)


def test_points_and_conditions_stay_together() -> None:
    assert all(torch.equal(x[:, 0].long(), i) for x, i in loader(shuffle=True))


def test_epochs_continue_the_stream() -> None:
    whole = drawn(loader(shuffle=True, batches=10))
    parts = loader(shuffle=True, batches=5)
    assert drawn(parts) + drawn(parts) == whole


@pytest.mark.parametrize("taken", [0, 1, 4, 5, 7])
def test_resumes_in_the_middle_of_an_epoch(taken: int) -> None:
    first = loader(shuffle=True)
    expected = [drawn(first) for _ in range(3)]
    source = loader(shuffle=True)
    seen: list[int] = []
    while len(seen) < 5 * taken:
        for batch in source:
            seen += drawn([batch])
            if len(seen) == 5 * taken:
                break
    resumed = loader(shuffle=True)
    resumed.load_state_dict(source.state_dict())
    rest = drawn(resumed)
    remaining = 5 - taken % 5
    assert len(rest) == 5 * remaining
    assert seen + rest + drawn(resumed) == list(itertools.chain(*expected))[: 5 * (taken + remaining + 5)]


def test_processes_partition_the_stream() -> None:
    whole = TensorLoader((POINTS, INDEX), 10, shuffle=True, seed=3)
    parts = [loader(shuffle=True, seed=3, rank=r, world_size=2) for r in (0, 1)]
    assert {len(p) for p in parts} == {3}
    for (_, together), (_, a), (_, b) in zip(whole, *parts, strict=True):
        assert torch.equal(torch.stack([a, b], 1).flatten(), together)
    shards = [drawn(loader(rank=r, world_size=2)) for r in (0, 1)]
    assert sorted(shards[0] + shards[1]) == list(range(N))


def test_transform_depends_on_seed_rank_and_batch_only() -> None:
    def jitter(x, generator):
        return x + torch.rand(x.shape, generator=generator)

    a, b = (loader(shuffle=True, transform=jitter) for _ in range(2))
    assert torch.equal(a.batch(7)[0], [b.batch(k) for k in (3, 7)][1][0])
    assert torch.equal(a.points, b.points)
    other = loader(shuffle=True, transform=jitter, seed=1)
    assert not torch.equal(a.points, other.points)
    ranks = [loader(transform=jitter, rank=r, world_size=2).batch(0)[0] % 1 for r in (0, 1)]
    assert not torch.equal(*ranks)


def test_seeds_give_different_orders() -> None:
    assert drawn(loader(shuffle=True)) != drawn(loader(shuffle=True, seed=1))


def test_rejects_nonsense() -> None:
    with pytest.raises(ShapeError, match="same, positive number of rows"):
        TensorLoader((POINTS, INDEX[:-1]), 5)
    with pytest.raises(ShapeError, match="same, positive number of rows"):
        TensorLoader((POINTS[:0],), 5)
    with pytest.raises(DomainError, match="batch_size"):
        TensorLoader((POINTS,), 0)
    with pytest.raises(DomainError, match=r"rank must lie in 0\.\.1"):
        loader(rank=2, world_size=2)
