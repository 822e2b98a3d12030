"""The architecture as a test: which room may import which, and what `import mirrorgen` loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mirrorgen"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports strictly lower layers, or its own room. Modules of layer 0 form one room.
LAYERS: dict[str, int] = {
    **dict.fromkeys(["_version", "betting", "errors", "numerics", "seeding", "spec", "special"], 0),
    "geometry": 1,
    **dict.fromkeys(["targets", "nets", "integrate", "metrics", "transport"], 2),
    **dict.fromkeys(["flows", "diffusion", "samplers", "optim", "policy", "storage"], 3),
    **dict.fromkeys(["data", "training", "sample_cli", "rl_cli"], 4),
    "cli": 5,
    **dict.fromkeys(["__init__", "__main__"], 6),
}
# Third-party packages with a home: the paths (relative to the package) that may import them.
HOMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["lightning", "pytorch_lightning"], ("data/", "training/", "cli.py")),
    "ot": ("flows/couplings.py", "transport/", "metrics/"),
    **dict.fromkeys(["gymnasium", "stable_baselines3"], ("policy/agents/", "rl_cli.py")),
    "matplotlib": ("training/", "rl_cli.py"),
}
# Packages of the extras too: a module that offers something optional has to import without it.
EXTRAS = {"sklearn", "pandas", "pyarrow", "tensorboard", "arviz", "huggingface_hub", "diffusers", "datasets"}
ONLY_INSIDE_FUNCTIONS = {"ot", "matplotlib"} | EXTRAS
NOT_ON_IMPORT = ["lightning", "pytorch_lightning", "ot", "gymnasium", "stable_baselines3", "matplotlib"]
MAX_LINES = 400


def imported_names(node: ast.AST, path: str) -> list[str]:
    """Absolute dotted names that one syntax node imports; `from p import a` gives `p.a`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = ["mirrorgen", *Path(path).parts[:-1]]
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0].value
        if called in {"import_module", "__import__"} and isinstance(name, str) and not name.startswith("."):
            return [name]
    return []


def imports(source: str, path: str) -> list[tuple[str, int, bool]]:
    """All imports of a module as `(dotted name, line, whether it is inside a function)`."""
    found = []

    def walk(node: ast.AST, inside: bool) -> None:
        found.extend((name, node.lineno, inside) for name in imported_names(node, path))
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(ast.parse(source), False)
    return found


def wrong_arrow(path: str, name: str) -> str | None:
    """Why the module at `path` must not import `name` from this package."""
    here = Path(path).parts[0].removesuffix(".py")
    there = [*name.split("."), "__init__"][1]
    for room in (here, there):
        if room not in LAYERS:
            return f"'{room}' is no room of the package: give it a layer, or import from the defining module"
    same_room = here == there or LAYERS[here] == LAYERS[there] == 0
    if same_room or LAYERS[there] < LAYERS[here]:
        return None
    return f"{here} (layer {LAYERS[here]}) imports {there} (layer {LAYERS[there]})"


def homeless(path: str, package: str, inside: bool) -> str | None:
    """Why the module at `path` must not import the third-party `package` there."""
    if package in HOMES and not path.startswith(HOMES[package]):
        return f"{package} is imported only in {', '.join(HOMES[package])}"
    if package in ONLY_INSIDE_FUNCTIONS and not inside:
        return f"{package} is imported only inside functions"
    return None


def violations(source: str, path: str) -> list[str]:
    """Every forbidden import of one module; `path` is relative to the package."""
    messages = []
    for name, line, inside in imports(source, path):
        package = name.split(".")[0]
        why = wrong_arrow(path, name) if package == "mirrorgen" else homeless(path, package, inside)
        if why:
            messages.append(f"mirrorgen/{path}:{line}: {why}")
    return messages


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_downwards(path: Path) -> None:
    found = violations(path.read_text(encoding="utf-8"), relative(path))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"mirrorgen/{relative(path)} has {lines} lines; split it at {MAX_LINES}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("geometry/bregman.py", "from mirrorgen.flows import MirrorFlow"),
        ("geometry/bregman.py", "from mirrorgen import flows"),
        ("geometry/domains/box.py", "from ...nets import MLP"),
        ("geometry/domains/box.py", "def f():\n    import mirrorgen.metrics"),
        ("geometry/domains/box.py", "import mirrorgen"),
        ("geometry/bregman.py", "import importlib\nimportlib.import_module('mirrorgen.training')"),
        ("flows/mirror_flow.py", "from mirrorgen.diffusion import schedules"),
        ("flows/mirror_flow.py", "from ..samplers.base import State"),
        ("metrics/mmd.py", "from mirrorgen.integrate import odeint"),
        ("training/modules.py", "from mirrorgen.data import Digits"),
        ("numerics.py", "from mirrorgen.geometry import Domain"),
        ("numerics.py", "from mirrorgen import Simplex"),
        ("attic/old.py", "from mirrorgen.errors import DomainError"),
        ("flows/mirror_flow.py", "import lightning.pytorch as pl"),
        ("__init__.py", "from lightning import Trainer"),
        ("flows/couplings.py", "import ot"),
        ("flows/priors.py", "def f():\n    import ot"),
        ("policy/proximal.py", "import gymnasium"),
        ("geometry/bregman.py", "def f():\n    from matplotlib import pyplot"),
        ("training/callbacks.py", "import matplotlib.pyplot as plt"),
        ("data/tables.py", "import pandas as pd"),
    ],
)
def test_checker_finds_wrong_arrows(path: str, source: str) -> None:
    assert len(violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("spec.py", "from mirrorgen.errors import DomainError"),
        ("geometry/mirror_maps/base.py", "from mirrorgen.geometry.domains.base import Domain"),
        ("geometry/domains/box.py", "from .base import Domain\nfrom ...errors import ShapeError"),
        ("flows/couplings.py", "def f():\n    import ot"),
        ("flows/mirror_flow.py", "import torch\nfrom mirrorgen.geometry.domains import Box"),
        ("data/tables.py", "def f():\n    import pandas as pd"),
        ("policy/agents/mdpo.py", "import gymnasium\nfrom mirrorgen.policy.gae import gae"),
        ("training/callbacks.py", "import lightning\ndef f():\n    import matplotlib.pyplot as plt"),
        (
            "cli.py",
            "from mirrorgen.training import checkpoint\nfrom lightning.pytorch.cli import LightningCLI",
        ),
        ("__init__.py", "def __getattr__(name):\n    from mirrorgen.flows import MirrorFlow"),
    ],
)
def test_checker_accepts_right_arrows(path: str, source: str) -> None:
    assert violations(source, path) == []


def run_python(code: str) -> str:
    """The output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_TIME = """
import sys, time
start = time.perf_counter(); import torch
middle = time.perf_counter(); import mirrorgen
end = time.perf_counter()
print(f"import torch {middle - start:.2f} s, import mirrorgen adds {end - middle:.2f} s")
print(*(name for name in sys.modules if "." not in name))
"""


def test_import_is_light() -> None:
    timing, modules = run_python(IMPORT_TIME).splitlines()
    print(timing)
    assert not set(NOT_ON_IMPORT) & set(modules.split())


def test_methods_need_neither_lightning_nor_extras() -> None:
    """Layers 0 to 3 import without the packages that only training, agents and figures use."""
    rooms = {room for room, layer in LAYERS.items() if layer <= 3}
    names = [
        ".".join(["mirrorgen", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in rooms
        and not relative(path).startswith("policy/agents/")
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    loaded = run_python(code + "print(*(name for name in sys.modules if '.' not in name))").split()
    assert not set(NOT_ON_IMPORT) & set(loaded)


if __name__ == "__main__":
    print(run_python(IMPORT_TIME).splitlines()[0])
