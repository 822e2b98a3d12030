"""The quadratic law on the simplex."""
# ruff: noqa: NPY002  the published instance is defined by the legacy generator

import numpy as np
import pytest
import torch

from mirrorgen.errors import DomainError
from mirrorgen.targets import SimplexQuadratic


def test_matrix_is_the_published_one_and_the_global_generator_is_left_alone():
    state = np.random.get_state()
    np.random.seed(123)
    m = np.random.uniform(-1, 1, size=(19, 19))
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    target = SimplexQuadratic()
    assert (np.random.get_state()[1] == before).all()
    np.random.set_state(state)
    np.testing.assert_allclose(target.matrix.numpy(), m @ m.T / abs(m @ m.T).max(), rtol=0, atol=1e-15)
    # Ill-conditioned on purpose.
    assert torch.linalg.cond(target.matrix) > 1e3


def test_density_and_score():
    target = SimplexQuadratic(4, 0.5, 1)
    x = target.domain.sample_uniform(5, generator=torch.Generator().manual_seed(0)).double()
    u = x[:, :3]
    expected = torch.stack([-(row @ target.matrix @ row) / (2 * 0.25) for row in u])
    torch.testing.assert_close(target(x), expected, rtol=1e-12, atol=1e-12)
    gradient = torch.func.grad(lambda p: target.log_density(p).sum())(x)
    torch.testing.assert_close(target.score(x), gradient, rtol=1e-12, atol=1e-12)


def test_scale_must_be_positive():
    with pytest.raises(DomainError):
        SimplexQuadratic(scale=0.0)
