"""A plugin that finds fault."""

from __future__ import annotations

from pgtasks import hookimpl

name = "unhealthy"


@hookimpl
async def health_check() -> str:
    return "the shop is closed"
