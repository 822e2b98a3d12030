"""Sphinx configuration."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

from mirrorgen._version import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "mirrorgen"
author = "mirrorgen contributors"
copyright = "mirrorgen contributors"
version = release = __version__

extensions = [
    "measured",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_extensions", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "mirrorgen"

# The API reference is generated from the modules that exist: a new module needs no entry here.
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
# Optional dependencies of single modules; their absence must not hide those modules' documentation.
autodoc_mock_imports = ["diffusers", "datasets", "arviz", "huggingface_hub"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# An "Attributes:" section is a list of fields; as objects they would be declared twice.
napoleon_use_ivar = True

# Docstrings are written to be read in the source: a bare |x| or (*batch, dim) in running text is mathematics,
# not markup. Only literals, roles and bold text keep their meaning.
_MARKUP = re.compile(r"(``.+?``|:\w+:`.+?`|`[^`]+`_{0,2}|\*\*\w[^*\n]*\w\*\*)")


def escape_mathematics(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape characters that reStructuredText would read as substitutions, emphasis and references."""
    pieces = _MARKUP.split("\n".join(lines))
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"(?<!\\)([|*])", r"\\\1", pieces[i])
        pieces[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", pieces[i])
    lines[:] = "".join(pieces).split("\n")


def inherited_from_elsewhere(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out hooks whose only docstring is another library's: it refers to pages that are not here."""
    owner, _, member = getattr(obj, "__qualname__", "").rpartition(".")
    cls = getattr(sys.modules.get(getattr(obj, "__module__", "")), owner, None)
    if not isinstance(cls, type) or getattr(obj, "__doc__", None):
        return None
    documented = [base for base in cls.__mro__ if getattr(vars(base).get(member), "__doc__", None)]
    others = ("lightning", "torch", "stable_baselines3")
    return True if documented and documented[0].__module__.startswith(others) else None


def setup(app: Sphinx) -> None:
    """Run before napoleon, which adds markup of its own."""
    app.connect("autodoc-skip-member", inherited_from_elsewhere)
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
