"""Robust standardisation of the dual."""

import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.flows import RobustStandardize, SoftLog


def fitted(y):
    transform = RobustStandardize()
    transform.initialize(y.shape[-1])
    transform.fit(y)
    return transform


def test_normal_data_get_zero_median_and_unit_deviation():
    y = 3.0 + 5.0 * torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0))
    u = fitted(y)(y)
    assert u.median(0).values.abs().max() < 1e-5
    assert (u.std(0) - 1).abs().max() < 0.02


def test_outliers_do_not_move_it():
    y = torch.randn(10_000, 1, generator=torch.Generator().manual_seed(1))
    spoiled = y.clone()
    spoiled[:50] = 1e6
    assert abs(fitted(spoiled).scale - fitted(y).scale) < 0.02


def test_quantiles_are_torchs():
    y = torch.randn(1001, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    transform = fitted(y)
    low, middle, high = torch.quantile(y, torch.tensor([0.25, 0.5, 0.75], dtype=y.dtype), dim=0)
    assert torch.allclose(transform.shift.double(), middle, atol=1e-6)
    assert torch.allclose(transform.scale.double() * 1.3489795003921634, high - low, atol=1e-6)


def test_inverse_log_det_and_identity_before_the_fit():
    y = torch.randn(64, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    transform = RobustStandardize()
    transform.initialize(3)
    assert torch.equal(transform(y), y)
    assert not transform.fitted
    transform = fitted(2.0 * y + 1.0)
    assert torch.allclose(transform.inverse(transform(y)), y)
    jacobian = torch.func.vmap(torch.func.jacrev(transform))(y)
    assert torch.allclose(transform.log_det(y), torch.linalg.slogdet(jacobian)[1])


def test_constant_coordinates_are_only_centred():
    y = torch.randn(100, 2, generator=torch.Generator().manual_seed(4))
    y[:, 1] = 7.0
    transform = fitted(y)
    assert transform.scale[1] == 1.0
    assert torch.isfinite(transform(y)).all()
    with pytest.raises(DomainError, match="tail"):
        RobustStandardize(0.5)


def heavy_and_light(n=20_000):
    generator = torch.Generator().manual_seed(5)
    pareto = torch.rand(n, generator=generator, dtype=torch.float64) ** (-1 / 2.0)
    sign = torch.randint(2, (n,), generator=generator) * 2 - 1
    return torch.stack([torch.randn(n, generator=generator, dtype=torch.float64), 3 * pareto * sign + 1], -1)


def test_soft_log_changes_heavy_margins_only():
    y = heavy_and_light()
    transform = SoftLog()
    transform.initialize(2)
    transform.fit(y)
    assert transform.flagged.tolist() == [False, True]
    plain = RobustStandardize()
    plain.initialize(2)
    plain.fit(y)
    w = plain(y)
    assert torch.equal(transform(y)[:, 0], w[:, 0])
    assert torch.allclose(transform(y)[:, 1] / transform.stretch[1], torch.sign(w[:, 1]) * torch.log1p(w[:, 1].abs()))
    # Power tails have become exponential: the kurtosis of the heavy margin, infinite in law, is now moderate.
    u = transform(y)[:, 1]
    assert (u - u.mean()).pow(4).mean() / u.var() ** 2 < 6
    everything = SoftLog(heavy=float("inf"))
    everything.initialize(2)
    everything.fit(y)
    assert everything.flagged.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_log_inverse_log_det_and_range(dtype):
    transform = SoftLog()
    transform.initialize(2)
    transform.fit(heavy_and_light())
    y = heavy_and_light(64).to(dtype)
    assert torch.allclose(transform.inverse(transform(y)), y, rtol=30 * torch.finfo(dtype).eps, atol=1e-5)
    jacobian = torch.func.vmap(torch.func.jacrev(transform))(y)
    assert torch.allclose(transform.log_det(y), torch.linalg.slogdet(jacobian)[1], rtol=1e-4)
    far = torch.full((1, 2), 1e6, dtype=dtype, requires_grad=True)
    back = transform.inverse(far)
    assert torch.isfinite(back).all()
    assert torch.isfinite(torch.autograd.grad(back.log().sum(), far)[0]).all()
    with pytest.raises(DomainError, match="heavy"):
        SoftLog(heavy=0.0)
    with pytest.raises(DomainError, match="share"):
        SoftLog(share=0.7)
