"""A breaking migration ends the workers of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks.errors import SchemaRefusedError
from pgtasks.queue.migrate import migrate

if TYPE_CHECKING:
    from tests.interop.conftest import Shared, StartNode, StartPython

ITS_CODE = 57
"""What Graphile Worker ends with when its schema has become too new for it."""


def test_after_a_breaking_migration_both_finish_their_jobs_and_end_and_neither_starts_again(
    db: Shared, start_node: StartNode, start_python: StartPython
) -> None:
    its, ours = start_node({"node_hold": "hold"}), start_python()
    jobs = [db.app.add_job(task, {"permit": "go"}) for task in ("node_hold", "hold")]
    for job in jobs:
        db.wait_for_run(job.id, ended=False)

    db.connection.execute("insert into graphile_worker.migrations (id, breaking) values (21, true)")
    db.connection.execute("""notify "worker:migrate", '{"migrationNumber": 21, "breaking": true}'""")
    draining = ours.wait_for("worker_draining")
    assert draining["error"] == "migration 21 of the schema needs a newer release of pgtasks"
    its.wait_for_text("breaking migration to database schema revision '21'")
    # Its worker may be looking for jobs at that moment: of later ones only ours are sure to be left alone.
    later = db.app.add_job("hold", {"permit": "go"})
    db.permit("go")
    assert ours.wait() == 8
    assert its.wait() == ITS_CODE
    assert {job_id for (job_id,) in db.runs("job_id", "ended is not null")} == {job.id for job in jobs}
    assert db.job(later.id).attempts == 0
    # Graphile Worker does not wait until it has told the database of its last job's end. We do.
    assert db.job(jobs[1].id) is None
    assert db.rows("select locked_by from graphile_worker.jobs where locked_by like 'pgtasks%%'") == []

    again = start_node()
    assert again.wait() != 0
    assert "includes breaking migration 21" in again.text
    with pytest.raises(SchemaRefusedError, match="breaking migration 21, which this release does not know"):
        migrate(db.connection)
