"""Optimal transport on tensors: plans, potentials and certificates, batched and differentiable."""

from mirrorgen.transport.problem import marginal_error
from mirrorgen.transport.result import TransportResult
from mirrorgen.transport.sinkhorn import sinkhorn

__all__ = ["TransportResult", "marginal_error", "sinkhorn"]
