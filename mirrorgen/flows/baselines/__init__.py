"""Flows that do without a mirror map: what Mirror Flow Matching is compared with."""

from mirrorgen.flows.baselines.gauge_flow import GaugeFlow
from mirrorgen.flows.baselines.reflected_flow import ReflectedFlow
from mirrorgen.flows.baselines.repaired_flow import RepairedFlow
from mirrorgen.flows.baselines.sphere_flow import SphereFlow

__all__ = ["GaugeFlow", "ReflectedFlow", "RepairedFlow", "SphereFlow"]
