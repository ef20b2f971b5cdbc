"""What the doctor's looks cost on a large table: no more than on a smaller one, whatever statistics say.

The cost is counted in pages that a statement touches. The statistics are those of a table of another kind: in turns all
jobs are waiting, held by workers, or permanently failed, and the table was last analysed when they were something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks.queue.doctor import Finding, Thresholds, jobs
from pgtasks.queue.doctor.held_cleanup import held_cleanup
from pgtasks.queue.doctor.indexes import indexes
from pgtasks.queue.doctor.limits import limited
from pgtasks.queue.doctor.locks import table_locks
from pgtasks.queue.doctor.schema import hidden_rows
from pgtasks.queue.doctor.server import server
from pgtasks.queue.doctor.tables import tables
from pgtasks.sql import Statements
from tests.queue.test_admin_costs import NAMES, add_crowd, pages, vacuum

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.database import Operation
    from tests.sql.queue import Queue

pytestmark = pytest.mark.one_postgres_each

COUNTED = 1_000
"""What the limits are lowered to, so that they are reached in the smaller table already."""
NORMAL = Thresholds()

# How many pages each may touch. To look at a job is to go down an index and to the job's page, if that was changed.
COSTS: dict[str, tuple[int, Callable[[Statements], Operation[list[Finding]]]]] = {
    "hidden_from": (100, hidden_rows),
    "server": (200, lambda sql: server(sql, NORMAL)),
    "held_cleanup": (200, lambda sql: held_cleanup(sql, NORMAL)),
    "table_locks": (200, lambda sql: table_locks(sql, NORMAL)),
    "tables": (1_500, lambda sql: tables(sql, NORMAL)),
    "indexes": (4_000, lambda sql: indexes(sql, NORMAL)),
    "backlog": (3 * NAMES * COUNTED, lambda sql: jobs.backlog(sql, NORMAL)),
    "stale_workers": (3 * COUNTED, lambda sql: jobs.stale_workers(sql, NORMAL)),
    "old_locks": (3 * COUNTED, lambda sql: jobs.old_locks(sql, NORMAL)),
    "failed_jobs": (3 * COUNTED, jobs.failed_jobs),
}

KINDS = {
    "waiting": {"priority": "n % 3", "run_at": "now()"},
    "future": {"priority": "n % 3", "run_at": "now() + interval '1 day'"},
    "running": {"attempts": "1", "locked_at": "now() - interval '5 hours'", "locked_by": "'w'"},
    "failed": {"attempts": "25"},
}


def costs(queue: Queue, schema: str) -> dict[str, int]:
    statements = Statements(schema)
    found = {}
    for name, (_, make) in COSTS.items():
        operation = make(statements)
        with limited(queue.conn, operation.name):
            found[name] = pages(queue, operation)
    return found


@pytest.mark.parametrize(
    ("before", "kind"), [("failed", "waiting"), ("waiting", "future"), ("failed", "running"), ("future", "failed")]
)
def test_a_larger_table_costs_no_more(
    queue: Queue, schema: str, monkeypatch: pytest.MonkeyPatch, before: str, kind: str
) -> None:
    for limit in ("COUNT_LIMIT", "MAX_LIMIT", "LOOK_AT"):
        monkeypatch.setattr(jobs, limit, COUNTED)
    for number in range(NAMES):
        queue.add(f"t{number}", queue_name=f"q{number}")
    queue.run("select {gw}._pgtasks_register_worker('w', 'h', 'web1', 77, '1.2')")
    queue.run("update {gw}._pgtasks_workers set heartbeat_at = now() - interval '1 day'")
    add_crowd(queue, **KINDS[before])
    queue.run("analyze {gw}._private_jobs")
    queue.run("truncate {gw}._private_jobs")
    add_crowd(queue, **KINDS[kind])
    vacuum(queue)
    small = costs(queue, schema)
    for _ in range(2):
        add_crowd(queue, **KINDS[kind])
    vacuum(queue)
    large = costs(queue, schema)
    grown = {name: (small[name], large[name]) for name in COSTS if large[name] > small[name] * 1.2 + 50}
    too_much = {name: large[name] for name, (most, _) in COSTS.items() if large[name] > most}
    assert (grown, too_much) == ({}, {})
