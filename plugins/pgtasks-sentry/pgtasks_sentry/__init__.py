"""Errors of jobs, and crashes of worker processes, in Sentry: a pgtasks plugin.

`Sentry` is the plugin, which the entry point names. The module is one, too: `pgtasks -p pgtasks_sentry`.
"""

from pgtasks_sentry.plugin import Sentry
from pgtasks_sentry.settings import SentrySettings

__all__ = ["Sentry", "SentrySettings"]

name = "sentry"

_plugin = Sentry()
configure = _plugin.configure
before_defer = _plugin.before_defer
supervisor_ready = _plugin.supervisor_ready
on_worker_lost = _plugin.on_worker_lost
supervisor_stopped = _plugin.supervisor_stopped
worker_process_init = _plugin.worker_process_init
job_context = _plugin.job_context
job_retrying = _plugin.job_retrying
job_failed = _plugin.job_failed
worker_process_shutdown = _plugin.worker_process_shutdown
