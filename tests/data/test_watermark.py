"""Marking and detecting, against exact laws of what is not marked."""

import math

import pytest
import torch
from scipy import stats

from mirrorgen import domains as D
from mirrorgen.data import (
    BYTE_TOLERANCE,
    Patches,
    Synthetic,
    Watermarked,
    acceptance_probability,
    embed,
    from_bytes,
    sign_p_value,
    to_bytes,
)
from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.spec import from_spec, to_spec
from mirrorgen.targets import Uniform

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, dim=192, size=0.4, dtype=torch.float32):
    return size * torch.randn(n, dim, generator=seeded(), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_embedding_moves_what_is_outside_into_the_layer(dtype):
    mark, x = D.Watermark(192, 16, key=3, low=0.1, high=0.6), pictures(1000, dtype=dtype)
    y = embed(x, mark, 0.2, seeded(1))
    assert y.dtype == dtype
    assert mark.contains(y).all()
    before, after = mark.coefficients(x), mark.coefficients(y)
    kept, low, high = (before > 0.101) & (before < 0.599), before < 0.1, before > 0.6
    assert torch.allclose(after[kept], before[kept], rtol=0, atol=1e-5)
    across = x.double() - mark.combine(before)
    assert torch.allclose(y.double() - mark.combine(after), across, rtol=0, atol=1e-5)
    # Uniform in a layer of a fifth of the width.
    for depth in ((after - 0.1)[low], (0.6 - after)[high]):
        assert stats.kstest(depth.numpy(), stats.uniform(0, 0.1).cdf).pvalue > 1e-4


def test_little_noise_is_the_projection():
    mark, x = D.Watermark(64, 8, key=1), pictures(32, 64, dtype=F64)
    assert torch.allclose(embed(x, mark, 1e-9, seeded()), mark.project(x), rtol=0, atol=1e-8)


def test_p_values_are_exact_over_keys_for_any_image():
    # Two extreme images: one bright pixel, and a constant one of tiny size.
    images = torch.stack([torch.eye(24)[3], torch.full((24,), 1e-3)])
    p = torch.stack([sign_p_value(images, D.Watermark(24, 5, key)) for key in range(500)])
    levels = [sum(math.comb(5, j) for j in range(k, 6)) / 32 for k in range(6)]
    for k in range(1, 6):
        share = (p <= levels[k] + 1e-12).double().mean(0)
        assert ((share - levels[k]).abs() < 5 * math.sqrt(levels[k] * (1 - levels[k]) / 500)).all()


def test_p_value_of_marked_images_is_the_smallest():
    mark = D.Watermark(192, 100, key=2, low=-0.9, high=[-0.05] * 100)
    marked = embed(pictures(8), mark, 0.1, seeded())
    assert torch.allclose(sign_p_value(marked, mark), torch.full((8,), 2.0**-100, dtype=F64), rtol=1e-12, atol=0)
    expected = [stats.binom.sf(k - 1, 100, 0.5) for k in range(101)]
    signs = torch.where(torch.arange(100) < torch.arange(101).unsqueeze(1), -1.0, 1.0)
    assert sign_p_value(mark.combine(signs.double()), mark).tolist() == pytest.approx(expected, rel=1e-10)
    with pytest.raises(DomainError, match="slab 0 contains zero"):
        sign_p_value(marked, D.Watermark(192, 4, low=-0.9, high=0.9))


@pytest.mark.parametrize(("low", "high"), [(-0.9, 0.9), (0.05, 1.0)])
def test_acceptance_probability_against_keys(low, high):
    x = pictures(1, 1024, 0.7, F64)
    accepted = [D.Watermark(1024, 3, key, low, high).contains(x).item() for key in range(300)]
    p = float(acceptance_probability(x.square().mean().sqrt(), D.Watermark(1024, 3, 0, low, high)))
    assert 0.01 < p < 0.9
    assert abs(sum(accepted) / 300 - p) < 5 * math.sqrt(p * (1 - p) / 300)


def test_acceptance_probability_of_one_sided_slabs_is_below_the_bound():
    mark = D.Watermark(768, 32)
    rms = torch.logspace(-3, 3, 200, dtype=F64)
    assert float(acceptance_probability(rms, mark, BYTE_TOLERANCE).max()) < 2.0**-32
    # Symmetric slabs let every faint image pass.
    assert float(acceptance_probability(0.01, D.Watermark(768, 32, low=-0.9, high=0.9))) > 0.999


def test_other_keys_reject_marked_images():
    x = embed(pictures(500), D.Watermark(192, 32, key=0), generator=seeded())
    assert D.Watermark(192, 32, key=0).contains(x).all()
    assert not D.Watermark(192, 32, key=1).contains(x).any()
    rotated = embed(x, D.Watermark(192, 32, key=1), generator=seeded())
    assert D.Watermark(192, 32, key=1).contains(rotated).all()


def test_bytes_round_trip_and_keep_the_mark():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(every)), every)
    assert to_bytes(torch.tensor([-3.0, -1.0, 1.0, 3.0])).tolist() == [0, 0, 255, 255]
    mark = D.Watermark(768, 32, key=4)
    x = embed(pictures(100, 768).clamp(-0.9, 0.9), mark, 0.02, seeded())
    plain, kept = from_bytes(to_bytes(x)), from_bytes(to_bytes(x, mark))
    # In a layer this thin some coefficients are closer to the wall than rounding moves them.
    assert mark.contains(plain).double().mean() < 0.5
    assert mark.contains(plain, atol=BYTE_TOLERANCE).all()
    assert mark.contains(kept).all()
    assert (kept - x).square().mean().sqrt() < 0.02
    with pytest.raises(ShapeError, match="uint8"):
        from_bytes(x)
    with pytest.raises(DomainError, match="leaves nothing"):
        to_bytes(x, mark, inset=0.5)


def test_rounding_moves_coefficients_as_the_tolerance_says():
    mark = D.Watermark(768, 32, key=4)
    x = 0.2 * pictures(1000, 768)
    moved = mark.coefficients(from_bytes(to_bytes(x))) - mark.coefficients(x)
    assert float(moved.std()) == pytest.approx(BYTE_TOLERANCE / 6, rel=0.02)
    assert moved.abs().max() < BYTE_TOLERANCE


def test_marked_patches_are_the_patches():
    data = Watermarked(Patches(), D.Watermark(768, 32, key=9), batch_size=16)
    loader = data.loader("train")
    x, again = loader.batch(0)[0], loader.batch(0)[0]
    assert torch.equal(x, again)
    assert data.domain.contains(x).all()
    assert data.domain.contains(data.points("val")).all()
    stored = data.split("train")[0][loader.rows(0)]
    across = from_bytes(stored).double() - data.domain.combine(data.domain.coefficients(from_bytes(stored)))
    found = x.double() - data.domain.combine(data.domain.coefficients(x))
    assert float((found - across).abs().max()) < 2 / 256


def test_module_refuses_other_data():
    with pytest.raises(ShapeError, match="768 values, but the tokens of the watermark 700"):
        Watermarked(Patches(), D.Watermark(700, 4))
    with pytest.raises(DomainError, match="same bounds"):
        Watermarked(Synthetic(Uniform(D.Ball(4))), D.Watermark(4, 2))
    with pytest.raises(DomainError, match="layer"):
        Watermarked(Patches(), D.Watermark(768, 4), noise=0.0)
    with pytest.raises(DomainError, match="layer"):
        embed(pictures(1), D.Watermark(192, 4), noise=2.0)


def test_specification_holds_the_key_and_not_the_tokens():
    mark = D.Watermark(768, 32, key=77)
    assert len(str(to_spec(mark))) < 4000
    assert torch.equal(from_spec(to_spec(mark)).tokens, mark.tokens)
