"""The typed errors and warnings of mirrorgen: every message names the violated constraint and the fix."""

__all__ = ["ConvergenceError", "DomainError", "MirrorgenError", "MissingExtraError", "SamplingWarning", "ShapeError"]


class MirrorgenError(Exception):
    """Base class of every error that mirrorgen raises on purpose."""


class DomainError(MirrorgenError, ValueError):
    """A point, set or parameter violates a constraint (outside, NaN, empty or unbounded set)."""


class ShapeError(MirrorgenError, ValueError):
    """A tensor has the wrong shape or dtype kind."""


class ConvergenceError(MirrorgenError, RuntimeError):
    """An iterative method stopped at its bound before reaching its tolerance.

    Args:
        message: What failed and how to help it.
        residual: The worst residual over the batch when the method stopped.
    """

    def __init__(self, message: str, residual: float = float("nan")) -> None:
        super().__init__(message)
        self.residual = residual

    def __reduce__(self) -> tuple[type, tuple[str, float]]:
        return type(self), (str(self), self.residual)


class MissingExtraError(MirrorgenError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    @classmethod
    def for_extra(cls, package: str, extra: str) -> "MissingExtraError":
        """Build the error for ``package``, which ``pip install mirrorgen[extra]`` brings."""
        return cls(f"{package} is not installed; run: pip install 'mirrorgen[{extra}]'")


class SamplingWarning(UserWarning):
    """Draws that should not be trusted yet; the message names the cause and what to change."""
