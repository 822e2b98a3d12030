"""Shared by these scripts: what all studies share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from report import COLORS, clean, figure, kept_rows, options, save, show, write_csv

__all__ = ["COLORS", "clean", "figure", "kept_rows", "options", "save", "show", "write_csv"]
