"""All tables and figures of Mirror Flow Matching.

python examples/mirror_flow_matching/run.py [--quick] [--only NAME ...] [--out DIR]
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import run_studies

if __name__ == "__main__":
    run_studies(__doc__, Path(__file__).parent)
