"""Inference on the coefficients that a randomised lasso selected, valid given the selection."""

from mirrorgen.samplers.selective_inference.density import SelectiveLaw, given_response, selective_laws
from mirrorgen.samplers.selective_inference.exact import ExactPivot, log_orthant_probability
from mirrorgen.samplers.selective_inference.inference import randomized_lasso
from mirrorgen.samplers.selective_inference.lasso import LassoFit, solve_lasso, theoretical_penalty
from mirrorgen.samplers.selective_inference.result import SelectiveInference
from mirrorgen.samplers.selective_inference.sampled import SampledPivot, Sampler, mirrored_hmc

__all__ = [
    "ExactPivot",
    "LassoFit",
    "SampledPivot",
    "Sampler",
    "SelectiveInference",
    "SelectiveLaw",
    "given_response",
    "log_orthant_probability",
    "mirrored_hmc",
    "randomized_lasso",
    "selective_laws",
    "solve_lasso",
    "theoretical_penalty",
]
