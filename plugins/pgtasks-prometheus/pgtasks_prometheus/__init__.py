"""What pgtasks workers do, for Prometheus: a plugin, `prometheus`, that answers at one port a host.

The module is the plugin. Importing it starts nothing, and nothing listens before the setting `port` says where.
"""

from __future__ import annotations

from typing import Final

from pgtasks_prometheus.plugin import Prometheus
from pgtasks_prometheus.settings import NAME, PrometheusSettings

__all__ = ["Prometheus", "PrometheusSettings", "name"]

name: Final = NAME

_plugin: Final = Prometheus()

# The hooks that the module implements, as the methods of one object.
configure = _plugin.configure
worker_process_init = _plugin.worker_process_init
jobs_claimed = _plugin.jobs_claimed
job_timed_out = _plugin.job_timed_out
job_finished = _plugin.job_finished
supervisor_ready = _plugin.supervisor_ready
supervisor_tick = _plugin.supervisor_tick
supervisor_stopped = _plugin.supervisor_stopped
worker_spawned = _plugin.worker_spawned
worker_exited = _plugin.worker_exited
on_worker_lost = _plugin.on_worker_lost
jobs_recovered = _plugin.jobs_recovered
listen_lost = _plugin.listen_lost
listen_restored = _plugin.listen_restored
database_error = _plugin.database_error
hook_error = _plugin.hook_error
