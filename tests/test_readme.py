"""The programs of the README and of the pages run as printed; what the tables and commands name exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mirrorgen import domains, mirror_maps
from mirrorgen.sample_cli import parser as sample_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOMAINS = [
    domains.Euclidean(2),
    domains.Orthant(2),
    domains.Box(0.0, 1.0, dim=2),
    domains.Simplex(3),
    domains.Ball(2),
    domains.Halfspace([1.0, 0.0], 1.0),
    domains.Slabs([[0.6, 0.8]]),
    domains.Watermark(4, 2),
    domains.Polytope([[1.0], [-1.0]], [1.0, 1.0]),
    domains.Birkhoff(2),
    domains.PSD(2),
    domains.Product(domains.Box(), domains.Ball(2)),
]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if "```python" in p.read_text(encoding="utf-8"))


def run_python(code: str) -> str:
    """The output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program() -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return found[1]


def test_program_fits_in_fifteen_lines() -> None:
    assert len(program().splitlines()) <= 15


def test_program_runs() -> None:
    short, replaced = re.subn(r"range\(\d+\)", "range(20)", program())
    assert replaced == 1
    output = run_python(short)
    assert "inside: True" in output
    log_density = float(output.rsplit("log density:", 1)[1])
    assert -20 < log_density < 20


def run_page(path: Path) -> dict[str, Any]:
    """The names that the Python blocks of a page leave behind, run in order as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile("\n".join(blocks), str(path), "exec"), names)
    return names


def test_pages_have_programs() -> None:
    assert {p.stem for p in PAGES} >= {"getting_started", "domains", "mirror_maps", "mirror_flow", "configs"}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_page_runs_and_says_what_happens(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page(path)
    if path.stem in CHECKS:
        CHECKS[path.stem](names, capsys.readouterr().out)


def check_getting_started(names: dict[str, Any], printed: str) -> None:
    box, x, y, mirror_map = (names[name] for name in ("box", "x", "y", "mirror_map"))
    assert box.contains(x).tolist() == [True, False]
    assert "point 1 violates x[1] < 1 (slack -0.3)" in printed
    torch.testing.assert_close(mirror_map.to_primal(y), torch.tensor([0.2, 0.7]))
    assert box.contains(mirror_map.to_primal(y + 1e4))
    assert box.contains(names["samples"]).all()


def check_mirror_flow(names: dict[str, Any], printed: str) -> None:
    assert names["domain"].contains(names["right"]).all()
    assert torch.isfinite(names["log_density"]).all()
    assert names["outside"].item() == -torch.inf


CHECKS = {"getting_started": check_getting_started, "mirror_flow": check_mirror_flow}


def test_tables_of_maps_name_every_map() -> None:
    guide = (ROOT / "docs" / "guides" / "mirror_maps.md").read_text(encoding="utf-8")
    for text in (README, guide):
        named = set(re.findall(r"`(\w+)", text))
        assert set(mirror_maps.__all__) - {"MirrorMap", "SeparableMap", "default"} <= named


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_readme_lists_the_default_map_first(domain: domains.Domain) -> None:
    row = re.search(rf"^\|[^|]*`{type(domain).__name__}`[^|]*\| `(\w+)`", README, flags=re.MULTILINE)
    assert row
    assert row[1] == type(mirror_maps.default(domain)).__name__


def test_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+) ", README))
    assert {"quickstart", "test"} <= named <= targets


def commands() -> list[list[str]]:
    """The ``mirrorgen`` and ``python`` command lines in the shell blocks of the README and the pages."""
    pages = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").rglob("*.md"))]
    blocks = [b for text in pages for b in re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("mirrorgen ", "python "))]


def test_commands_name_files_and_options_that_exist() -> None:
    found = commands()
    assert {command[1] for command in found} >= {"fit", "validate", "test", "predict", "sample"}
    for command in found:
        named = [ROOT / part for part in command if part.startswith(("configs/", "examples/"))]
        assert [path for path in named if not path.is_file()] == []
        if command[1] == "sample":
            sample_parser(command[2:]).parse_args(command[2:])


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
