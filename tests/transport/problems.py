"""Random transport problems."""

import torch

F64 = torch.float64


def clouds(*batch, n=20, m=None, seed=0, concentration=5.0):
    """Squared distances of points in the plane over the largest of each problem, and weights of mass one."""
    generator = torch.Generator().manual_seed(seed)
    m = n if m is None else m
    x, y = (torch.randn(*batch, k, 2, generator=generator, dtype=F64) for k in (n, m))
    cost = torch.cdist(x, 0.7 * y + 1).square()
    cost = cost / cost.amax((-2, -1), keepdim=True)
    mu, nu = (0.2 + torch.rand(*batch, k, generator=generator, dtype=F64) for k in (n, m))
    return cost, mu / mu.sum(-1, keepdim=True), nu / nu.sum(-1, keepdim=True)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def divergence(p, q):
    """``KL(p, q) = sum p log(p / q) - p + q`` of positive matrices."""
    return (torch.special.xlogy(p, p / q) - p + q).sum((-2, -1))
