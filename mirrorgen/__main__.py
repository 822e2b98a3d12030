"""``python -m mirrorgen``."""

from mirrorgen.cli import console

if __name__ == "__main__":
    console()
