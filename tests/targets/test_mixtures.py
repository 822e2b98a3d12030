"""Log-densities of mixtures against torch.distributions and against their own draws."""

import torch

from mirrorgen import targets
from mirrorgen.geometry.domains import Box


def test_truncated_mixture_is_the_mixture_up_to_a_constant():
    means, variances = [[0.0, 0.5], [1.0, -0.5]], [[0.2, 0.3], [0.5, 0.1]]
    target = targets.TruncatedMixture(Box(-1.0, 1.0, dim=2), means, variances, weights=[0.3, 0.7])
    x = target.domain.sample_uniform(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    components = torch.distributions.Normal(torch.tensor(means), torch.tensor(variances).sqrt())
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.3, 0.7])), torch.distributions.Independent(components, 1)
    )
    gap = target(x) - mixture.log_prob(x.float())
    torch.testing.assert_close(gap, gap[:1].expand(50), rtol=0, atol=1e-5)


def test_dirichlet_mixture_is_normalised():
    target = targets.DirichletMixture([[2.0, 5.0], [4.0, 1.5]], weights=[0.25, 0.75])
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    mass = target(torch.stack([u, 1 - u], -1)).exp().mean()
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-6, atol=0)


def test_score_is_the_gradient():
    target = targets.DirichletMixture([[2.0, 5.0, 1.0], [4.0, 1.5, 3.0]])
    x = target.sample(5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.testing.assert_close(target.score(x.detach()), torch.autograd.grad(target(x).sum(), x)[0])
