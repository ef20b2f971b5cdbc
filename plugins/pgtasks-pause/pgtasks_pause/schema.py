"""The steps of the plugin's table, with its view and functions."""

from __future__ import annotations

from importlib.resources import files

from pgtasks.plugins import Migration


def migrations() -> list[Migration]:
    """Return all steps. One that was released is not changed any more."""
    return [Migration(1, (files("pgtasks_pause") / "step_1.sql").read_text())]
