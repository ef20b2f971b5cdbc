"""Pause and resume tasks, queues and flags on all hosts at once, with maintenance windows.

    from pgtasks_pause import pause, resume

    pause(app, queue="mail", until=timedelta(hours=2), reason="the provider is down")
    resume(app, queue="mail")

The module is the plugin, however it is loaded: by its entry point, with `-p pgtasks_pause`, or by an App.
"""

from __future__ import annotations

from pgtasks_pause.api import pause, pause_async, paused, paused_async, resume, resume_async
from pgtasks_pause.data import Pause, PauseError, Weekly, What
from pgtasks_pause.plugin import PausePlugin

__all__ = [
    "Pause",
    "PauseError",
    "Weekly",
    "What",
    "name",
    "pause",
    "pause_async",
    "paused",
    "paused_async",
    "resume",
    "resume_async",
]

name = "pause"

_plugin = PausePlugin()
configure = _plugin.configure
worker_process_init = _plugin.worker_process_init
register_migrations = _plugin.register_migrations
register_commands = _plugin.register_commands
register_checks = _plugin.register_checks
forbidden_flags = _plugin.forbidden_flags
before_claim = _plugin.before_claim
admit_jobs = _plugin.admit_jobs
