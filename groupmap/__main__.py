"""``python -m groupmap``, the same as the command ``groupmap``."""

from groupmap.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
