"""``python -m mirrorgen``."""

from mirrorgen.cli import main

if __name__ == "__main__":
    main()
