"""Run the studies of this folder, each in a process of its own.

    python examples/mirror_sinkhorn/run.py [--quick] [--out DIR] [--only NAME ...]

Every script beside this one is a study, except ``common.py``; its first lines say what it does and writes. Options
other than ``--only`` are passed on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Run them in turn; a study that fails does not stop the others."""
    names = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("run", "common"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="studies to run")
    chosen, passed_on = parser.parse_known_args()
    failed = []
    for name in chosen.only:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, FOLDER / f"{name}.py", *passed_on], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
