"""What is written of how far jobs have come: by who holds them, and for as long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres


def report(queue: Queue, claim: Row, done: int = 1, worker: str = "w", ended: tuple[int, ...] = ()) -> list[int]:
    return queue.values(
        "select {gw}._pgtasks_report_progress(%s, %s::bigint[], array[%s::bigint], array[%s::timestamptz], "
        "array[%s::smallint], array[%s::double precision], array[10::double precision], array['so far'])",
        worker,
        list(ended),
        claim["id"],
        claim["locked_at"],
        claim["attempts"],
        done,
    )


def seen(queue: Queue, ids: list[int] | None = None) -> dict[int, float]:
    rows = queue.rows("select * from {gw}._pgtasks_list_progress(%s::bigint[], 100)", ids)
    assert all(row["age"] >= 0 for row in rows)
    return {row["job_id"]: row["done"] for row in rows}


def kept(queue: Queue) -> list[int]:
    return queue.values("select job_id from {gw}._pgtasks_progress order by job_id")


def test_only_who_holds_a_job_can_say_how_far_it_has_come(queue: Queue) -> None:
    first, second = queue.add(), queue.add()
    old, other = queue.claim(worker="w", limit=2)
    assert report(queue, old, worker="somebody else") == []
    assert report(queue, old) == [first]
    assert report(queue, other, done=4) == [second]
    assert report(queue, other, done=5) == [second]
    assert seen(queue) == {first: 1, second: 5}
    assert seen(queue, [first, 99]) == {first: 1}

    # The same worker takes the job once more: what the first run has said is not seen, nor anything it still says.
    queue.finish({**old, "outcome": "retry", "delay": 0.0}, worker="w")
    assert seen(queue) == {second: 5}
    [new] = queue.claim(worker="w")
    assert report(queue, old, done=9) == []
    assert seen(queue) == {second: 5}
    assert report(queue, new, done=2, ended=(second,)) == [first]
    assert seen(queue) == {first: 2}
    assert kept(queue) == [first]


def test_what_is_left_of_a_claim_goes_with_the_worker_or_is_swept(queue: Queue) -> None:
    job_ids = [queue.add() for _ in range(3)]
    queue.run("select {gw}._pgtasks_register_worker('w', 'host', 'example', 7, '1.0')")
    mine = queue.claim(worker="w", limit=2)
    [theirs] = queue.claim(worker="v")
    for claim in mine:
        report(queue, claim)
    report(queue, theirs, worker="v")
    queue.finish({**mine[0], "outcome": "success"}, worker="w")
    assert kept(queue) == job_ids
    queue.run("select {gw}._pgtasks_sweep_stale_locks()")
    assert kept(queue) == job_ids[1:]
    queue.run("select {gw}._pgtasks_release_worker('w', retire => true)")
    assert kept(queue) == job_ids[2:]
    assert seen(queue) == {theirs["id"]: 1}
