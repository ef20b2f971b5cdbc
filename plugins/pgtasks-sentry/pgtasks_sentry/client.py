"""Sentry's client: started where it is to be ours, and kept from telling things twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sentry_sdk

if TYPE_CHECKING:
    from pgtasks_sentry.settings import SentrySettings

_REPORTED_BY_US = "job_failed"
"""The event that pgtasks logs for what is reported with more detail."""


def is_active() -> bool:
    """Whether this process has a client."""
    return sentry_sdk.get_client().is_active()


def start(settings: SentrySettings, **options: Any) -> None:
    """Start a client if there is to be one, unless the application has. In the process that uses it: it has threads."""
    if settings.dsn is not None and not is_active():
        sentry_sdk.init(
            **{
                "dsn": settings.dsn.get_secret_value(),
                "environment": settings.environment,
                "release": settings.release,
                "include_local_variables": settings.send_payload,
                "traces_sample_rate": settings.traces_sample_rate if settings.traces else None,
                **options,
                **settings.options,
            }
        )
    if is_active():
        sentry_sdk.get_global_scope().add_event_processor(_without_own_records)


def _without_own_records(event: Any, hint: Any) -> Any:
    """Leave out what Sentry's logging integration makes of pgtasks' own record of a failed job."""
    record = hint.get("log_record")
    if record is None or not record.name.startswith("pgtasks"):
        return event
    logged = record.msg.get("event") if isinstance(record.msg, dict) else record.msg
    return None if logged == _REPORTED_BY_US else event
