"""The README's program runs as printed, and the commands that the README names exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    done = subprocess.run(
        [sys.executable, "-c", short], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "inside: True" in done.stdout
    log_density = float(done.stdout.rsplit("log density:", 1)[1])
    assert -20 < log_density < 20


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
