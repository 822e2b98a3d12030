"""Run the studies of this folder, each in a process of its own.

    python examples/topology/run.py [--quick] [--out DIR] [--only NAME ...]

Every script beside this one with a ``main`` is a study; its first lines say what it does and writes. Options other than
``--only`` are passed on.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import run_studies

if __name__ == "__main__":
    run_studies(__doc__, Path(__file__).resolve().parent)
