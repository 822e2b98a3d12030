"""``python -m mirrorgen``."""

from mirrorgen.cli import main

main()
