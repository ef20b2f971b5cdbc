"""The plugin's settings."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field

NAME: Final = "prometheus"
"""Of the plugin."""


class PrometheusSettings(BaseModel):
    """Settings of the plugin: `[tool.pgtasks.plugin.prometheus]` and `PGTASKS_PLUGIN_PROMETHEUS__KEY`."""

    port: int | None = Field(None, ge=0, le=65535)
    """Where the supervisor answers; 0: at any free port, which the log names; None: nowhere, and nothing is counted."""
    address: str = Field("127.0.0.1", min_length=1)
    """On which address of the host."""
    queue_interval: float = Field(15.0, gt=0, allow_inf_nan=False)
    """For how many seconds what the database said of waiting jobs is shown before it is asked again, when scraped."""
    queue_limit: int = Field(10_000, ge=1, le=100_000)
    """So many jobs of a task are counted in each state."""
