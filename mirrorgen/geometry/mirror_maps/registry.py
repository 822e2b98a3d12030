"""``torch.distributions.biject_to`` and ``transform_to`` for the constraint of every domain with a default map."""

from torch.distributions import biject_to, transform_to

from mirrorgen.geometry.domains.base import DomainConstraint
from mirrorgen.geometry.mirror_maps.default import default
from mirrorgen.geometry.mirror_maps.transform import MirrorTransform

__all__ = ["default_transform"]


@biject_to.register(DomainConstraint)
@transform_to.register(DomainConstraint)
def default_transform(constraint: DomainConstraint) -> MirrorTransform:
    """The bijection from ``R^dual_dim`` to the domain that ``default`` maps give.

    Registered on import, so that ``biject_to(domain.constraint)`` works and samplers and guides of other libraries
    take variables with ``support = domain.constraint``.

    Args:
        constraint: ``domain.constraint``.

    Raises:
        DomainError: If the domain has no default map.
    """
    return default(constraint.domain).transform
