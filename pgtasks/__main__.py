"""`python -m pgtasks`, which is the command `pgtasks`."""

from __future__ import annotations

import sys

from pgtasks.cli import main

if __name__ == "__main__":
    sys.exit(main())
