"""Targets as ``torch.distributions``, for libraries that sample or fit models made of these."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from mirrorgen.geometry.domains import Domain
from mirrorgen.targets.base import Target
from mirrorgen.targets.uniform import Uniform

__all__ = ["TargetDistribution", "UniformOn"]


class TargetDistribution(Distribution):
    """A target as a distribution with ``support = target.domain.constraint`` and event shape ``(dim,)``.

    ``log_prob`` is the log-density of the target, up to its constant, inside the domain and minus infinity elsewhere.
    ``biject_to(support)`` is the default mirror map of the domain.

    Args:
        target: The law.
        batch_shape: Shape of independent copies.
        validate_args: Whether ``log_prob`` raises for points outside; torch's default if None.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  # as torch declares it
    has_rsample = False

    def __init__(self, target: Target, batch_shape: tuple[int, ...] = (), *, validate_args: bool | None = None) -> None:
        self.target = target
        super().__init__(torch.Size(batch_shape), torch.Size([target.domain.dim]), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """The domain of the target."""
        return self.target.domain.constraint

    @property
    def mean(self) -> Tensor:
        return self._repeated(self.target.mean)

    @property
    def variance(self) -> Tensor:
        return self._repeated(self.target.variance)

    def _repeated(self, value: Tensor) -> Tensor:
        return value.to(torch.get_default_dtype()).expand(self._extended_shape())

    def expand(self, batch_shape: Any, _instance: Any = None) -> "TargetDistribution":
        new = self._get_checked_instance(TargetDistribution, _instance)
        new.target = self.target
        super(TargetDistribution, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        draws = self.target.sample(shape[:-1].numel()).to(torch.get_default_dtype())
        return self.target.domain.pull_inside(draws)[0].reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        domain = self.target.domain
        inside = domain.contains(value)
        # Points outside are replaced: a logarithm there would give NaN gradients even where it is not used.
        safe = torch.where(inside.unsqueeze(-1), value, domain.interior_point().to(value))
        density = torch.where(inside, self.target.log_density(safe), -torch.inf)
        return density.expand(torch.broadcast_shapes(density.shape, self.batch_shape))


class UniformOn(TargetDistribution):
    """The uniform law of a domain as a prior; ``log_prob`` is ``-log_volume`` inside.

    Args:
        domain: Any convex domain; a proper law where it is bounded.
        log_volume: Logarithm of its volume if it is known and evidence matters; zero otherwise.
        validate_args: Whether ``log_prob`` raises for points outside; torch's default if None.
    """

    def __init__(self, domain: Domain, log_volume: float = 0.0, *, validate_args: bool | None = None) -> None:
        self.domain, self.log_volume = domain, log_volume
        super().__init__(Uniform(domain), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "UniformOn":
        new = self._get_checked_instance(UniformOn, _instance)
        new.domain, new.log_volume = self.domain, self.log_volume
        super().expand(batch_shape, new)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - self.log_volume
