"""What became of each job, recorded in the transaction that ends it.

    from pgtasks_history import history

    for entry in history(app, task="send_email", outcome="failed", limit=20):
        print(entry.job_id, entry.finished_at, entry.error)

The module is the plugin, however it is loaded: by its entry point, with `-p pgtasks_history`, or by an App.
"""

from __future__ import annotations

from pgtasks_history.api import history, history_async, prune, prune_async
from pgtasks_history.data import Entry, HistoryError, Outcome
from pgtasks_history.plugin import HistoryPlugin
from pgtasks_history.settings import HistorySettings

__all__ = [
    "Entry",
    "HistoryError",
    "HistorySettings",
    "Outcome",
    "history",
    "history_async",
    "name",
    "prune",
    "prune_async",
]

name = "history"

_plugin = HistoryPlugin()
configure = _plugin.configure
register_migrations = _plugin.register_migrations
register_commands = _plugin.register_commands
register_checks = _plugin.register_checks
supervisor_ready = _plugin.supervisor_ready
supervisor_tick = _plugin.supervisor_tick
