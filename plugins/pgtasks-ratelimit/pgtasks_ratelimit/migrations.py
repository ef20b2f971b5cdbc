"""The plugin's tables and functions."""

from __future__ import annotations

from importlib import resources
from typing import Final

from pgtasks.plugins import Migration

_FIRST: Final = ("tables.sql", "exchange.sql", "limits.sql")


def migrations() -> list[Migration]:
    """Return the steps; one that was released is never changed."""
    folder = resources.files("pgtasks_ratelimit") / "sql"
    return [Migration(1, "\n".join((folder / name).read_text(encoding="utf-8") for name in _FIRST))]
