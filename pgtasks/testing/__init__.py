"""Tools for tests of applications and of plugins.

For applications: a database for each test, jobs that run in the test itself, assertions about those that were added.
For plugins: hooks called as pgtasks calls them, a recorder of calls, and real workers.

    # conftest.py, at the top of the project
    pytest_plugins = ["pgtasks.testing.plugin"]

That gives the fixtures of `pgtasks.testing.plugin`. What stands here needs no pytest.
"""

from __future__ import annotations

from pgtasks.testing.calling import call_hook, call_hook_async, check_plugin
from pgtasks.testing.clock import advance, advance_async
from pgtasks.testing.deferred import assert_deferred, assert_deferred_async, deferred_jobs, deferred_jobs_async
from pgtasks.testing.elsewhere import install, use_connection, use_database, use_test_database
from pgtasks.testing.handling import JobRun
from pgtasks.testing.immediate import EagerJobs, eager
from pgtasks.testing.logged import JobLogs, job_logs
from pgtasks.testing.making import make_end, make_job
from pgtasks.testing.recording import HookCall, HookRecorder
from pgtasks.testing.running import run_jobs, run_jobs_async
from pgtasks.testing.scheduling import add_cron_jobs, add_cron_jobs_async
from pgtasks.testing.server import DatabaseServer, database_server
from pgtasks.testing.workers import RunningWorker, WorkerRun, run_worker, start_worker

__all__ = [
    "DatabaseServer",
    "EagerJobs",
    "HookCall",
    "HookRecorder",
    "JobLogs",
    "JobRun",
    "RunningWorker",
    "WorkerRun",
    "add_cron_jobs",
    "add_cron_jobs_async",
    "advance",
    "advance_async",
    "assert_deferred",
    "assert_deferred_async",
    "call_hook",
    "call_hook_async",
    "check_plugin",
    "database_server",
    "deferred_jobs",
    "deferred_jobs_async",
    "eager",
    "install",
    "job_logs",
    "make_end",
    "make_job",
    "run_jobs",
    "run_jobs_async",
    "run_worker",
    "start_worker",
    "use_connection",
    "use_database",
    "use_test_database",
]
