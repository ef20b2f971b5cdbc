"""Tools for tests of plugins: a database for each test, hooks called as pgtasks calls them, and real workers.

    # conftest.py, at the top of the project
    pytest_plugins = ["pgtasks.testing.plugin"]

That gives the fixtures of `pgtasks.testing.plugin`. What stands here needs no pytest.
"""

from __future__ import annotations

from pgtasks.testing.calling import call_hook, call_hook_async, check_plugin
from pgtasks.testing.making import make_end, make_job
from pgtasks.testing.recording import HookCall, HookRecorder
from pgtasks.testing.server import DatabaseServer, database_server
from pgtasks.testing.workers import RunningWorker, WorkerRun, run_worker, start_worker

__all__ = [
    "DatabaseServer",
    "HookCall",
    "HookRecorder",
    "RunningWorker",
    "WorkerRun",
    "call_hook",
    "call_hook_async",
    "check_plugin",
    "database_server",
    "make_end",
    "make_job",
    "run_worker",
    "start_worker",
]
