"""The digits: how many, where they lie, and the quoted share of near-zero pixels."""

import pytest
import torch
from sklearn.datasets import load_digits

from mirrorgen.data import Digits
from mirrorgen.errors import DomainError


@pytest.mark.parametrize("normalize", ["box", "simplex"])
def test_points_are_inside(normalize: str) -> None:
    data = Digits(normalize=normalize)
    for name in ("train", "test"):
        x = data.points(name)
        assert x.dtype == torch.float32
        assert data.domain.contains(x).all()
    assert data.conditions("train").bincount(minlength=10).min() > 100


def test_split_is_fixed_and_disjoint() -> None:
    train, held_out = (Digits(seed=s).split(n)[0] for s, n in ((0, "train"), (5, "test")))
    assert (len(train), len(held_out)) == (1500, 297)
    both = torch.cat([train, held_out])
    raw = torch.tensor(load_digits().data, dtype=torch.float32)
    assert torch.equal(both[torch.randperm(1797)].sum(0), raw.sum(0))
    assert torch.equal(
        torch.unique(both, dim=0, return_counts=True)[1], torch.unique(raw, dim=0, return_counts=True)[1]
    )


def test_dequantisation_keeps_the_levels() -> None:
    data = Digits()
    assert torch.equal((data.points() * 17).floor(), data.split("train")[0])
    # 48.9% of the pixels are zero and uniform on (0, 1/17): 0.489 * 0.17 of all lie below 0.01.
    assert (data.points() < 0.01).float().mean().item() == pytest.approx(0.0832, abs=0.002)


def test_batches_are_dequantised_afresh() -> None:
    loader = Digits(batch_size=1500).train_dataloader()
    first, second = loader.batch(0), loader.batch(1)
    order = [b[0].sum(1).argsort() for b in (first, second)]
    assert not torch.equal(first[0][order[0]], second[0][order[1]])


def test_labels_can_be_left_out() -> None:
    data = Digits(labels=False)
    assert data.conditions() is None
    assert len(next(iter(data.train_dataloader()))) == 1


def test_rejects_unknown_choices() -> None:
    with pytest.raises(DomainError, match="normalize"):
        Digits(normalize="sphere")
    with pytest.raises(DomainError, match="unknown split"):
        Digits().split("valid")
