"""Real workers, of several hosts, that keep to limits together."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from ratelimit_buckets import excess

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Limited

TWO = ("--processes", "2", "--concurrency", "10")
ONE = ("--processes", "1", "--concurrency", "10")


@pytest.mark.parametrize(
    ("rule", "rate", "burst", "jobs"), [("50/s burst 20", 50, 20, 200), ("1000/s", 1000, 200, 3000)]
)
def test_two_hosts_never_start_more_than_the_limit_allows(
    limited: Limited, rule: str, rate: int, burst: int, jobs: int
) -> None:
    ids = limited.add(jobs, "stripe")
    hosts = [limited.start({"stripe": rule}, *TWO) for _ in range(2)]
    limited.wait_for_starts(jobs // 3)
    killed = hosts[0].process_ids()[0]
    os.kill(killed, signal.SIGKILL)
    hosts[0].wait_for("process_exited", status="killed by SIGKILL")
    limited.db.wait_until_empty()
    assert excess([at for _, at in limited.notes("admit")], rate, burst) <= 0
    again = {job_id for job_id, count in Counter(limited.started()).items() if count > 1}
    assert set(limited.started()) == set(ids)
    assert again <= limited.started_in(killed), "only what ran there, or had ended and was not written"


def test_jobs_without_a_limit_run_while_others_wait(limited: Limited) -> None:
    held = limited.add(5, "stripe")
    free = limited.add(20) + limited.add(20, "other")
    limited.start({"stripe": "1/d"}, *ONE)
    limited.wait_for_starts(41)
    assert sorted(limited.started()) == sorted([held[0], *free])


def test_what_waits_keeps_its_place_and_its_attempts(limited: Limited) -> None:
    ids = limited.add(5, "stripe")
    query = "select id, run_at, attempts from graphile_worker.jobs where locked_at is null order by id"
    before = limited.db.rows(query)
    limited.start({"stripe": "1/d"}, *ONE)
    limited.wait_for_starts(1)
    limited.db.wait(lambda: limited.db.rows(query) == before[1:], "all but one as they were")
    assert limited.started() == ids[:1]


def test_jobs_of_a_limit_run_in_their_order(limited: Limited) -> None:
    ids = limited.add(30, "stripe")
    limited.start({"stripe": "40/s burst 2"}, "--processes", "1", "--concurrency", "1")
    limited.db.wait_until_empty()
    assert limited.started() == ids


def test_each_flag_that_a_pattern_matches_has_a_bucket(limited: Limited) -> None:
    ids = [limited.add(3, f"tenant:{name}") for name in ("a", "b", "c")]
    limited.start({"tenant:*": "2/d burst 2", "tenant:c": "1/d"}, *ONE)
    limited.wait_for_starts(5)
    limited.wait_for(lambda: limited.db.locked() == 0, "the others given back")
    assert sorted(limited.started()) == sorted(ids[0][:2] + ids[1][:2] + ids[2][:1])


def test_a_job_needs_a_token_for_each_of_its_flags(limited: Limited) -> None:
    both = limited.add(3, "fast", "slow")
    fast = limited.add(3, "fast")
    limited.start({"fast": "100/s", "slow": "1/d"}, *ONE)
    limited.wait_for_starts(4)
    assert sorted(limited.started()) == sorted([both[0], *fast])


def test_jobs_with_several_flags_run_though_each_flag_has_a_backlog(limited: Limited) -> None:
    ids = limited.add(20, "a") + limited.add(20, "b") + limited.add(10, "a", "b")
    limited.start({"a": "30/s burst 2", "b": "30/s burst 2"}, *ONE)
    limited.db.wait_until_empty()
    assert sorted(limited.started()) == ids


def test_a_value_in_the_payload_has_a_bucket(limited: Limited) -> None:
    one = limited.add(3, payload={"customer": {"id": 1}})
    two = limited.add(1, payload={"customer": {"id": "1"}})
    none = limited.add(2, payload={"customer": 1})
    limited.start({"payload:customer.id": "1/d"}, *ONE)
    limited.wait_for_starts(4)
    assert sorted(limited.started()) == sorted([one[0], *two, *none])
    query = "select id from graphile_worker.jobs where run_at > now() + interval '1 hour' order by run_at"
    limited.db.wait(lambda: [row[0] for row in limited.db.rows(query)] == one[1:], "the others put off, in order")


def test_a_cap_holds_across_hosts(limited: Limited, tmp_path: Path) -> None:
    go = tmp_path / "go"
    ids = limited.add(12, "pdf", task="hold", payload={"file": str(go)})
    for _ in range(2):
        limited.start({"pdf": "max 3 running"}, *TWO)
    limited.wait_for_starts(3)
    go.touch()
    limited.db.wait_until_empty()
    assert limited.most_running() == 3
    assert sorted(limited.started()) == ids


def test_places_of_a_process_that_was_killed_come_back(limited: Limited, tmp_path: Path) -> None:
    ids = limited.add(2, "pdf", task="hold", payload={"file": str(tmp_path / "never")}, max_attempts=1)
    first = limited.start({"pdf": "max 2 running"}, *ONE)
    limited.wait_for_starts(2)
    more = limited.add(2, "pdf", task="hold", payload={"file": str(tmp_path)})
    os.kill(first.process_ids()[0], signal.SIGKILL)
    limited.wait_for_starts(4)
    assert sorted(limited.started()) == ids + more


def test_places_of_a_host_that_was_killed_come_back(limited: Limited, tmp_path: Path) -> None:
    limited.add(2, "pdf", task="hold", payload={"file": str(tmp_path / "never")})
    stale = {"PGTASKS_STALE_AFTER": "2", "PGTASKS_MAX_INTERRUPTIONS": "0"}
    first = limited.start({"pdf": "max 2 running"}, *ONE, **stale)
    limited.wait_for_starts(2)
    for pid in first.process_ids():
        os.kill(pid, signal.SIGSTOP)  # so that nothing of the host can say that it ends
    first.process.kill()
    more = limited.add(2, "pdf", task="hold", payload={"file": str(tmp_path)})
    limited.start({"pdf": "max 2 running"}, *ONE, **stale)
    limited.wait_for(lambda: set(more) <= set(limited.started()), "the next two")
    for pid in first.process_ids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_limit_can_be_set_while_workers_run(limited: Limited) -> None:
    worker = limited.start({}, *ONE)
    limited.add(1, "stripe")
    limited.wait_for_starts(1)
    limited.db.connection.execute("select graphile_worker.set_rate_limit('stripe', '2/d burst 2')")
    limited.db.connection.execute("select graphile_worker.set_rate_limit('probe', '1/d')")

    def is_known() -> bool:
        limited.add(1, "probe")
        return bool(worker.records("job_returned"))

    limited.wait_for(is_known, "a job that is held back")
    before = set(limited.started())
    ids = limited.add(4, "stripe") + limited.add(1)
    limited.wait_for(lambda: ids[-1] in limited.started(), "the job without a limit")
    limited.wait_for(lambda: len((set(limited.started()) - before) & set(ids[:-1])) >= 2, "two of them")
    assert worker.stop() == 0
    assert len((set(limited.started()) - before) & set(ids[:-1])) == 2


def test_a_limit_can_be_lifted_while_workers_run(limited: Limited) -> None:
    ids = limited.add(5, "stripe")
    limited.start({"stripe": "1/d"}, *ONE)
    limited.wait_for_starts(1)
    limited.db.connection.execute("select graphile_worker.set_rate_limit('stripe', 'unlimited')")
    limited.wait_for_starts(5)
    assert sorted(limited.started()) == ids


def test_nothing_limited_starts_while_the_database_cannot_be_asked(limited: Limited) -> None:
    rename = "alter function graphile_worker.{} rename to {}".format
    connection = limited.db.connection
    connection.execute(rename("_pgtasks_ratelimit_exchange", "away").encode())
    limited.add(3, "stripe")
    free = limited.add(3)
    worker = limited.start({"stripe": "100/s"}, *ONE)
    limited.wait_for_starts(3)
    limited.wait_for(lambda: "ratelimit_failed" in worker.text, "a record of it")
    assert sorted(limited.started()) == free
    connection.execute(rename("away", "_pgtasks_ratelimit_exchange").encode())
    limited.db.wait_until_empty()


def test_a_worker_gives_back_what_it_holds_when_it_ends(limited: Limited) -> None:
    limited.add(3, "stripe", "pdf")
    worker = limited.start({"stripe": "1000/d burst 10", "pdf": "max 5 running"}, "--once", *ONE)
    assert worker.wait() == 0
    assert limited.db.value("select count(*) from graphile_worker._pgtasks_ratelimit_holders") == 0


def test_a_rule_that_cannot_be_read_keeps_a_worker_from_starting(limited: Limited) -> None:
    worker = limited.start({"stripe": "100/x"}, *ONE)
    assert worker.wait() != 0
    assert "limit 'stripe': cannot read '100/x': write a rate such as" in worker.text
