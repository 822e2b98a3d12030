"""The programs of the README and the getting-started page run as printed; the commands named there exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


GUIDE = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8")


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


def test_guide_on_domains_and_maps_runs() -> None:
    section = GUIDE.split("## A domain and a mirror map")[1].split("## A model")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 2
    checks = """
assert box.contains(x).tolist() == [True, False]
assert "x[1] < 1" in box.explain(x)
assert torch.allclose(mirror_map.to_primal(y), torch.tensor([0.2, 0.7]))
assert box.contains(mirror_map.to_primal(y + 1e4))
"""
    run_python("".join(blocks) + checks)


def test_commands_exist() -> None:
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    named = set(re.findall(r"make ([a-z]+) ", README))
    assert {"quickstart", "test"} <= named <= targets


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
