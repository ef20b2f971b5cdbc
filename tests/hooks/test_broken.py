"""With a plugin that fails in every hook jobs end as they do without it, and the other plugins hear all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Kind
from tests.hooks.test_order import check, shown
from tests.worker.conftest import prepared

if TYPE_CHECKING:
    from tests.hooks.test_order import Record
    from tests.worker.conftest import Database

SOON = """
from pgtasks.worker import host_hooks, process
host_hooks._LAST_SECONDS = process._LAST_WORDS_SECONDS = 2.0
"""
"""A worker waits no longer than that for plugins when it ends."""
HEADINGS = {"works": "A job succeeds", "raises": "The last attempt fails", "dies": "A job takes its process down"}


@pytest.mark.parametrize("way", ["raise", "nonsense", "hang"])
@pytest.mark.parametrize("task", HEADINGS)
def test_jobs_end_as_they_should(record: Record, db: Database, task: str, way: str) -> None:
    job = db.app.add_job(task, max_attempts=1)
    if way == "hang" and task != "works":  # one worker that ends though a plugin hangs is enough
        way = "hang a while"
    # Others need not answer that soon, where nothing hangs.
    timeout = "0.3" if way.startswith("hang") else "60"
    env = {
        "PGTASKS_PLUGINS": "tests.hooks.recorder,tests.hooks.broken",
        "BROKEN": way,
        "PGTASKS_HOOK_TIMEOUT": timeout,
    }
    recorded = record("--once", "--processes", "1", env=env, before=prepared(SOON) if way == "hang" else ())
    assert recorded.worker.wait() == 0
    if task != "dies":
        check(recorded, HEADINGS[task])
    row = db.job(job.id)
    assert (row is None) == (task == "works")
    if row is not None:
        assert (row.attempts, row.locked_at) == (1, None)
    named = {record["hook"] for record in recorded.worker.records("hook_failed", plugin="broken")}
    asked = {name for name in shown(HEADINGS[task], "Asked") if HOOKS[name].kind is not Kind.WRAP}
    assert named >= asked
    assert not recorded.worker.records("hook_failed", plugin="recorder")
