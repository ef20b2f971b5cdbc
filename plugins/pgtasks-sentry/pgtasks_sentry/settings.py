"""What can be set, in `[tool.pgtasks.plugin.sentry]` or as `PGTASKS_PLUGIN_SENTRY__NAME`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr


class SentrySettings(BaseModel):
    """Settings of the plugin."""

    dsn: SecretStr | None = None
    """Where to report to; without it, where the application's own `sentry_sdk.init` says."""
    environment: str | None = None
    """Name of the environment; Sentry's own default, which is `SENTRY_ENVIRONMENT`, if it is not set."""
    release: str | None = None
    """Name of the release; likewise, `SENTRY_RELEASE`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further options of `sentry_sdk.init`."""
    report: Literal["every", "last", "first"] = "every"
    """Which failed attempts of a job are reported: every one, only one after which it does not run again, or only its
    first."""
    send_payload: bool = False
    """Whether reports have the payload, and the values of local variables, which may hold it."""
    traces: bool = False
    """Whether each run is a transaction, which goes on with the trace of the add."""
    traces_sample_rate: float = Field(default=1.0, ge=0, le=1)
    """Which part of them is sent, if `dsn` is set."""
    flush_timeout: float = Field(default=4.0, ge=0, le=5)
    """How many seconds the end of a process waits for what is to be sent."""
