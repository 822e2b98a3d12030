"""The error tree."""

import pickle

import pytest

from mirrorgen import errors


def test_errors_are_also_the_builtin_kinds():
    assert issubclass(errors.DomainError, ValueError)
    assert issubclass(errors.ShapeError, ValueError)
    assert issubclass(errors.ConvergenceError, RuntimeError)
    assert issubclass(errors.MissingExtraError, ImportError)
    for kind in (getattr(errors, name) for name in errors.__all__):
        assert issubclass(kind, UserWarning if kind is errors.SamplingWarning else errors.MirrorgenError)


def test_convergence_error_keeps_its_residual_across_processes():
    twin = pickle.loads(pickle.dumps(errors.ConvergenceError("stopped", residual=0.25)))
    assert twin.residual == 0.25
    assert str(twin) == "stopped"


def test_missing_extra_names_the_command():
    error = errors.MissingExtraError.for_extra("matplotlib", "viz")
    assert "pip install 'mirrorgen[viz]'" in str(error)
    with pytest.raises(ImportError):
        raise error
