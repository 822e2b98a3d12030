"""Ordinary differential equations: fixed-step kernels, one loop, an adaptive bridge, log-determinants.

A vector field is called as ``f(t, y)`` with a scalar tensor ``t`` and points ``y``, shape ``(*batch, dim)``.
"""

from mirrorgen.integrate.adaptive import Adaptive, odeint_adaptive
from mirrorgen.integrate.divergence import divergence_exact, divergence_hutchinson, divergence_named, rademacher
from mirrorgen.integrate.fixed import RK4, Euler, FixedStep, Heun, Midpoint
from mirrorgen.integrate.logdet import integrate_with_logdet
from mirrorgen.integrate.loop import METHODS, integrate, resolve_method

__all__ = [
    "Adaptive",
    "Euler",
    "FixedStep",
    "Heun",
    "METHODS",
    "Midpoint",
    "RK4",
    "divergence_exact",
    "divergence_hutchinson",
    "divergence_named",
    "integrate",
    "integrate_with_logdet",
    "odeint_adaptive",
    "rademacher",
    "resolve_method",
]
