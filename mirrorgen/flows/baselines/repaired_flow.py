"""Unconstrained flow matching whose samples are projected onto the domain, or drawn again, at the end."""

from typing import Any, Literal

import torch
from torch import Tensor

from mirrorgen.errors import ConvergenceError, DomainError
from mirrorgen.flows.couplings import Coupling
from mirrorgen.flows.flow_model import FlowModel
from mirrorgen.flows.priors import Gaussian, Prior
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.dual_transform import RobustStandardize
from mirrorgen.geometry.validation import require_kind
from mirrorgen.nets import Net, expand_condition
from mirrorgen.numerics import upcast

__all__ = ["RepairedFlow"]

Repair = Literal["project", "reject", "none"]


class RepairedFlow(FlowModel):
    """Flow matching in all of ``R^d``, blind to the domain, and a repair of what comes out.

    Projection puts the mass that the model has outside onto the boundary: the law of the samples has atoms on faces
    and no density. Rejection is exact for the model's law restricted to the domain and costs as many draws as the model
    misses.

    Args:
        domain: Any domain.
        net: Velocity ``net(u, t, condition)`` on ``domain.dual_dim`` coordinates, standardised.
        repair: ``"project"``, ``"reject"``, or ``"none"``, whose samples may be outside, to see how many are.
        prior: Law of the noise; normal if None.
        coupling: Pairing of noise and data within a batch; independent if None.
        condition_dropout: Probability of forgetting the condition in training, which guidance needs.
        max_rounds: Bound on the rounds of ``"reject"``, each of as many draws as are missing.

    Raises:
        DomainError: If ``repair`` is unknown or a part is of the wrong kind.
        ShapeError: If the network's dimension is not ``domain.dual_dim``.

    Source: Lipman, Chen, Ben-Hamu, Nickel, Le, "Flow Matching for Generative Modeling", 2023.
    """

    def __init__(
        self,
        domain: Domain,
        net: Net,
        repair: Repair = "project",
        prior: Prior | None = None,
        coupling: Coupling | None = None,
        condition_dropout: float = 0.1,
        max_rounds: int = 100,
    ) -> None:
        require_kind(domain, Domain, "domain")
        _check(repair)
        if max_rounds < 1:
            raise DomainError(f"max_rounds must be at least 1, got {max_rounds}")
        super().__init__(net, domain.dual_dim, coupling, condition_dropout)
        self.domain, self.repair, self.max_rounds = domain, repair, max_rounds
        self.prior = Gaussian() if prior is None else prior
        require_kind(self.prior, Prior, "prior")
        self.dual_transform = RobustStandardize()
        self.dual_transform.initialize(self.dim)

    def fit_dual_transform(self, x: Tensor) -> None:
        """Fit the standardisation to training points ``(n, dim)``, once, before training."""
        self.domain.check(x)
        self.dual_transform.fit(self.domain.to_chart(upcast(x)))

    def encode(self, x: Tensor) -> Tensor:
        """Chart coordinates, standardised."""
        self.domain.check(x)
        return self.dual_transform(self.domain.to_chart(upcast(x))).to(x.dtype)

    def decode(self, u: Tensor) -> Tensor:
        """Points of the affine hull before the repair, which may lie outside the domain."""
        return self.domain.from_chart(self.dual_transform.inverse(u))

    @torch.no_grad()
    def sample(
        self, n: int, *, condition: Tensor | int | None = None, repair: Repair | None = None, **options: Any
    ) -> Tensor:
        """Draw ``n`` points ``(n, domain.dim)``, strictly inside the domain unless ``repair="none"``.

        Args:
            n: Number of points.
            condition: One label for all, or labels ``(n,)`` or vectors ``(n, k)``; None for unconditional.
            repair: Instead of the model's own.
            options: As in ``FlowModel.sample``, with its errors.

        Raises:
            ConvergenceError: If ``max_rounds`` of rejection did not suffice.
        """
        repair = _check(self.repair if repair is None else repair)
        labels = expand_condition(self.net, condition, n)
        x = super().sample(n, condition=labels, **options)
        if repair == "none":
            return x
        if repair == "reject":
            x = self._redrawn(x, labels, options)
        return self.domain.pull_inside(self.domain.project(x))[0]

    def _redrawn(self, x: Tensor, labels: Tensor | None, options: dict[str, Any]) -> Tensor:
        for _ in range(self.max_rounds):
            outside = (~self.domain.contains(x)).nonzero().flatten()
            if len(outside) == 0:
                return x
            rows = None if labels is None else labels[outside]
            x = x.index_copy(0, outside, super().sample(len(outside), condition=rows, **options))
        raise ConvergenceError(
            f"{len(outside)} of {len(x)} samples were outside {self.domain!r} in each of {self.max_rounds} rounds; "
            "train longer, or use repair='project'",
            residual=len(outside) / len(x),
        )

    def _draw(self, n: int, generator: torch.Generator | None, **options: Any) -> Tensor:
        return self.prior.sample(n, self.dim, generator=generator, **options)


def _check(repair: Repair) -> Repair:
    if repair not in ("project", "reject", "none"):
        raise DomainError(f"repair is 'project', 'reject' or 'none', got {repair!r}")
    return repair
