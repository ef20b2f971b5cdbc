"""Traces and metrics of jobs, by OpenTelemetry: a pgtasks plugin.

`OpenTelemetry` is the plugin, which the entry point names. The module is one, too: `pgtasks -p pgtasks_opentelemetry`.
"""

from pgtasks_opentelemetry.plugin import OpenTelemetry
from pgtasks_opentelemetry.settings import OpenTelemetrySettings

__all__ = ["OpenTelemetry", "OpenTelemetrySettings"]

name = "opentelemetry"

_plugin = OpenTelemetry()
configure = _plugin.configure
before_defer = _plugin.before_defer
worker_process_init = _plugin.worker_process_init
job_context = _plugin.job_context
job_finished = _plugin.job_finished
worker_process_shutdown = _plugin.worker_process_shutdown
