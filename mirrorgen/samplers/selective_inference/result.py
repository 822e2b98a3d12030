"""What inference after selection returns."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorgen.errors import DomainError
from mirrorgen.samplers.selective_inference.lasso import LassoFit

__all__ = ["SelectiveInference"]


@dataclass(frozen=True, eq=False)
class SelectiveInference:
    """Estimates, tests and intervals of the ``k`` selected coefficients of the model ``y ~ N(X_E theta, sigma^2 I)``.

    All tensors are float64; ``k = 0`` if nothing was selected.

    Attributes:
        selected: Columns of ``X``, ``(k,)``, ascending.
        estimates: Median-unbiased estimates given the selection, ``(k,)``: where the pivot is 1/2.
        least_squares: Least squares coefficients in the selected model ``(k,)``, biased by selection.
        standard_errors: Of least squares, without selection, ``(k,)``.
        p_values: Two-sided, of ``theta_j = 0``, ``(k,)``.
        levels: Levels of the intervals ``(l,)``.
        intervals: Lower and upper ends ``(l, k, 2)``.
        bracketed: Whether the root that defines an end was found, ``(l, k, 2)``; else that end is infinite.
        effective_sizes: Effective number of draws at each end ``(l, k, 2)``; infinite for the exact method.
        monte_carlo_errors: Standard error of each end from the finite number of draws ``(l, k, 2)``; 0 if exact.
        fit: The solution of the randomised lasso.
        sigma: Standard deviation of the errors that was used.
        noise_scale: Standard deviation of the randomisation.
        method: ``"exact"`` or ``"sampler"``.
    """

    selected: Tensor
    estimates: Tensor
    least_squares: Tensor
    standard_errors: Tensor
    p_values: Tensor
    levels: Tensor
    intervals: Tensor
    bracketed: Tensor
    effective_sizes: Tensor
    monte_carlo_errors: Tensor
    fit: LassoFit
    sigma: float
    noise_scale: float
    method: str

    def interval(self, level: float) -> Tensor:
        """The intervals of one level ``(k, 2)``.

        Raises:
            DomainError: If the level is not among ``levels``.
        """
        match = torch.nonzero((self.levels - level).abs() < 1e-9)
        if len(match) == 0:
            raise DomainError(f"level {level} was not asked for; pass levels=({level}, ...) to randomized_lasso")
        return self.intervals[int(match[0])]

    def __str__(self) -> str:
        """A table with the widest intervals."""
        if len(self.selected) == 0:
            return f"nothing selected at penalty {self.fit.penalty:.4g}"
        widest = int(self.levels.argmax())
        head = f"{'column':>6} {'least sq.':>10} {'estimate':>10} {'lower':>10} {'upper':>10} {'p':>9}"
        lines = [f"{float(self.levels[widest]):.3g} intervals, {self.method}, penalty {self.fit.penalty:.4g}", head]
        columns = (self.least_squares, self.estimates, *self.intervals[widest].unbind(-1))
        for j, name in enumerate(self.selected.tolist()):
            numbers = " ".join(f"{float(c[j]):>10.4g}" for c in columns)
            mark = "" if bool(self.bracketed[widest, j].all()) else "  end not found"
            lines.append(f"{name:>6} {numbers} {float(self.p_values[j]):>9.2g}{mark}")
        return "\n".join(lines)
