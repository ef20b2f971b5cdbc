"""An application whose worker soon tries again what the database has refused, and always looks for lost claims."""

from __future__ import annotations

from pgtasks.worker import claimer, completer
from tests.worker.jobs import app

__all__ = ["app"]

completer._REFUSED_SECONDS = 0.1
claimer._RECONCILE_SECONDS = (0.0, 0.0)
