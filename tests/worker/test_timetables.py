"""Timetables of users' own data, with real workers; what is scheduled when is tested in tests/queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


def test_workers_plan_what_was_put_and_run_it_when_its_time_comes(db: Database, start_worker: StartWorker) -> None:
    workers = [start_worker("--processes", "1", "--concurrency", "1") for _ in range(2)]
    for worker in workers:
        worker.wait_for("worker_ready")
    put = db.app.timetables.put("new year", "note", "@yearly", payload={"n": 1}, timezone="Europe/Berlin")
    assert put.next_at is None
    db.value("select graphile_worker.pgtasks_put_timetable('bad', 'note', '1 2 3 4 32')")
    known = "select next_at from graphile_worker._pgtasks_timetables where id = 'new year'"
    db.wait(lambda: db.value(known) is not None, "the next time")
    assert f"{db.value(known):%m-%d %H:%M}" == "12-31 23:00"
    bad = "select error from graphile_worker._pgtasks_timetables where id = 'bad'"
    db.wait(lambda: db.value(bad) is not None, "the error")
    db.wait(lambda: any(worker.records("timetable_invalid") for worker in workers), "word of the error")

    db.connection.execute(
        "update graphile_worker._pgtasks_timetables set next_at = now() + interval '0.2 s' where id = 'new year'"
    )
    db.connection.execute("select pg_notify('pgtasks:timetables', '')")
    db.wait_for_effects(1)
    db.wait_until_empty()
    timetable = db.app.timetables.get("new year")
    assert timetable is not None
    assert timetable.last_at is not None
    assert timetable.scheduled_by in [worker.records("worker_ready")[0]["host"] for worker in workers]
    assert timetable.next_at is not None
    assert timetable.next_at > timetable.last_at
    assert len(db.effects()) == 1
    assert [worker.stop() for worker in workers] == [0, 0]
    (told,) = (record for worker in workers for record in worker.records("timetable_invalid"))
    assert (told["timetable"], told["task"]) == ("bad", "note")
    assert "32" in told["error"]
