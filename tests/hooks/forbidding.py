"""An application whose forbidden flags come from a function of the kind that `FORBIDDING` says: `plain` or `async`."""

from __future__ import annotations

import os
from pathlib import Path

from pgtasks import App

FORBIDDEN = Path(os.environ.get("FORBIDDEN", os.devnull))
"""A file with the flags that are forbidden."""


def plain() -> list[str]:
    return FORBIDDEN.read_text().split()


async def later() -> list[str]:
    return plain()


app = App(forbidden_flags=later if os.environ.get("FORBIDDING") == "async" else plain)


@app.task
def works(payload: object) -> None: ...
