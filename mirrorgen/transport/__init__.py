"""Optimal transport on tensors: plans, potentials and certificates, batched and differentiable."""

from mirrorgen.transport.certificate import DualCertificate, dual_certificate, duality_gap
from mirrorgen.transport.entropic import sinkhorn
from mirrorgen.transport.exact import exact_plan
from mirrorgen.transport.mirror_descent import MirrorSinkhornResult, MirrorSinkhornStep, mirror_sinkhorn
from mirrorgen.transport.problem import marginal_error
from mirrorgen.transport.result import TransportResult
from mirrorgen.transport.rounding import round_to_polytope
from mirrorgen.transport.steps import log_spread

__all__ = [
    "DualCertificate",
    "MirrorSinkhornResult",
    "MirrorSinkhornStep",
    "TransportResult",
    "dual_certificate",
    "duality_gap",
    "exact_plan",
    "log_spread",
    "marginal_error",
    "mirror_sinkhorn",
    "round_to_polytope",
    "sinkhorn",
]
