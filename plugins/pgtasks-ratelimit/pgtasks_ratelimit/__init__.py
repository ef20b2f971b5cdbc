"""Rate limits and concurrency caps for pgtasks, exact across processes and hosts.

The module is the plugin: `pgtasks worker -p pgtasks_ratelimit`, or installed, by its entry point. In code, for an App
of its own, it is `RateLimit()`.
"""

from __future__ import annotations

from typing import Final

from pgtasks_ratelimit.plugin import NAME, RateLimit
from pgtasks_ratelimit.rules import Limit, RateLimitSettings, parse_limit

__version__ = "0.1.0"
__all__ = ["Limit", "RateLimit", "RateLimitSettings", "parse_limit"]

name: Final = NAME
vital_hooks: Final = RateLimit.vital_hooks

_plugin = RateLimit()
configure = _plugin.configure
register_migrations = _plugin.register_migrations
register_commands = _plugin.register_commands
worker_process_init = _plugin.worker_process_init
before_claim = _plugin.before_claim
admit_jobs = _plugin.admit_jobs
job_finished = _plugin.job_finished
worker_process_shutdown = _plugin.worker_process_shutdown
collect_metrics = _plugin.collect_metrics
supervisor_tick = _plugin.supervisor_tick
