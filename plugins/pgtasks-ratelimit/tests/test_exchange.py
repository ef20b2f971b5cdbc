"""Leases of tokens and places, in the database."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ratelimit_buckets import EPOCH, LIFETIME, Taken, excess, exchange

from tests.waiting import wait_until
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]


def test_a_new_bucket_is_full(connection: Connection) -> None:
    assert exchange(connection, "a", "10/s burst 5", 8, at=0).granted == 5


def test_tokens_come_in_one_by_one(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 5", 5, at=0)
    assert exchange(connection, "a", "10/s burst 5", 5, lease=first.lease, used=5, age=0.35, at=0.35).granted == 3


def test_what_is_not_used_is_back_with_the_next_exchange(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 5", 5, at=0)
    exchange(connection, "a", "10/s burst 5", 0, lease=first.lease, used=1, at=0)
    assert exchange(connection, "b", "10/s burst 5", 5, at=0).granted == 4


def test_what_is_leased_is_not_granted_to_others(connection: Connection) -> None:
    exchange(connection, "a", "10/s burst 5", 3, at=0)
    assert exchange(connection, "b", "10/s burst 5", 5, at=0).granted == 2


def test_the_wait_is_that_for_the_next_token(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 5", 5, at=0)
    taken = exchange(connection, "a", "10/s burst 5", 1, lease=first.lease, used=5, age=0.03, at=0.03)
    assert (taken.granted, round(taken.wait, 6)) == (0, 0.07)
    assert exchange(connection, "a", "10/s burst 5", 1, at=0.1).granted == 1


def test_a_token_can_be_had_before_it_comes_in(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 1", 1, at=0)
    taken = exchange(connection, "a", "10/s burst 1", 3, lease=first.lease, used=1, age=0.02, ahead=1, at=0.02)
    assert (taken.granted, round(taken.starts_in, 6)) == (1, 0.08)
    assert exchange(connection, "b", "10/s burst 1", 1, ahead=1, at=0.09).granted == 0


def test_a_use_counts_from_when_it_happened(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 1", 1, at=0)
    taken = exchange(connection, "a", "10/s burst 1", 1, lease=first.lease, used=1, age=0.06, at=0.09)
    assert round(taken.wait, 6) == 0.04


def test_a_report_counts_once_though_its_answer_was_lost(connection: Connection) -> None:
    first = exchange(connection, "a", "10/s burst 5", 5, at=0)
    exchange(connection, "a", "10/s burst 5", 0, lease=first.lease, used=2, at=0)
    assert exchange(connection, "a", "10/s burst 5", 5, lease=first.lease, used=2, at=0).granted == 3


def test_a_lease_that_has_expired_counts_as_used_then(connection: Connection) -> None:
    exchange(connection, "a", "10/s burst 5", 5, at=0)
    assert exchange(connection, "b", "10/s burst 5", 5, at=1.9).granted == 0
    assert exchange(connection, "b", "10/s burst 5", 5, at=2.0).granted == 0
    assert exchange(connection, "b", "10/s burst 5", 5, at=2.3).granted == 3


def test_a_lease_of_a_worker_that_has_ended_counts_as_used_then(connection: Connection) -> None:
    connection.execute("insert into graphile_worker._pgtasks_workers (id, released_at) values ('a', now())")
    exchange(connection, "a", "10/s burst 5", 5, at=0)
    assert exchange(connection, "b", "10/s burst 5", 5, at=1).granted == 0
    assert exchange(connection, "b", "10/s burst 5", 5, at=1.3).granted == 3


def test_a_limit_of_the_table_comes_before_that_of_the_caller(connection: Connection) -> None:
    connection.execute("select graphile_worker.set_rate_limit('stripe', '10/s burst 2')")
    assert exchange(connection, "a", "10/s burst 5", 5, at=0).granted == 2
    connection.execute("select graphile_worker.remove_rate_limit('stripe')")
    assert exchange(connection, "a", "10/s burst 5", 5, at=10).granted == 3


def test_a_limit_can_be_lifted_while_workers_run(connection: Connection) -> None:
    exchange(connection, "a", "10/s burst 5", 5, at=0)
    connection.execute("select graphile_worker.set_rate_limit('stripe', 'unlimited')")
    assert exchange(connection, "b", "10/s burst 5", 1000, at=0).granted == 1000


def test_a_cap_counts_what_all_workers_run(connection: Connection) -> None:
    assert exchange(connection, "a", "max 4 running", 3).granted == 3
    assert exchange(connection, "b", "max 4 running", 3).granted == 1
    assert exchange(connection, "a", "max 4 running", 3, busy=1).granted == 2
    assert exchange(connection, "a", "max 4 running", 0, busy=0).granted == 0
    assert exchange(connection, "b", "max 4 running", 9, busy=1).granted == 3


def test_places_of_workers_that_are_alive_stay_theirs(connection: Connection) -> None:
    connection.execute("insert into graphile_worker._pgtasks_workers (id) values ('a')")
    exchange(connection, "a", "max 2 running", 2, at=0)
    assert exchange(connection, "b", "max 2 running", 2, at=3600).granted == 0


def test_places_of_a_worker_come_back_when_its_jobs_have_been_given_back(connection: Connection) -> None:
    connection.execute("insert into graphile_worker._pgtasks_workers (id, retired_at) values ('a', now())")
    exchange(connection, "a", "max 2 running", 2, at=0)
    assert exchange(connection, "b", "max 2 running", 2, at=0).granted == 0
    connection.execute("update graphile_worker._pgtasks_workers set released_at = now()")
    assert exchange(connection, "b", "max 2 running", 2, at=0).granted == 2


def test_places_of_a_worker_that_was_never_known_come_back_after_a_minute(connection: Connection) -> None:
    exchange(connection, "a", "max 2 running", 2, at=0)
    assert exchange(connection, "b", "max 2 running", 2, at=59).granted == 0
    assert exchange(connection, "b", "max 2 running", 2, at=61).granted == 2


def test_a_rate_and_a_cap_both_hold(connection: Connection) -> None:
    assert exchange(connection, "a", "10/s burst 5, max 3 running", 9, at=0).granted == 3
    assert exchange(connection, "b", "10/s burst 5, max 3 running", 9, at=0).granted == 0


def test_buckets_that_are_full_and_not_held_are_deleted(connection: Connection) -> None:
    full = exchange(connection, "a", "1000/s burst 5", 5, key="full")
    exchange(connection, "a", "1000/s burst 5", 0, key="full", lease=full.lease, used=5)
    empty = exchange(connection, "a", "1/d", 1, key="empty")
    exchange(connection, "a", "1/d", 0, key="empty", lease=empty.lease, used=1)
    exchange(connection, "a", "max 4 running", 1, key="held")

    def left() -> list[tuple[str]]:
        connection.execute("select graphile_worker._pgtasks_ratelimit_cleanup()")
        return connection.execute("select key from graphile_worker._pgtasks_ratelimit_buckets order by key").fetchall()

    wait_until(lambda: ("full",) not in left(), LONG, "the end of the bucket that fills up")
    assert left() == [("empty",), ("held",)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["exchange", "exchange", "exchange", "lost answer", "start", "start", "crash"]),
        st.integers(0, 2),  # which holder
        st.integers(0, 8),  # how many
        st.integers(0, 4000),  # milliseconds before it, at a quarter of which most are
    ),
    max_size=60,
)


class Holder:
    """What a process knows and does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lease = 0
        self.tokens = 0
        self.used = 0
        self.last = 0.0
        self.start = 0.0
        self.until = 0.0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=STEPS,
    tokens=st.integers(1, 40),
    period=st.sampled_from([1, 3, 7]),
    burst=st.integers(1, 12),
    scale=st.sampled_from([0.001, 0.01, 0.2, 1.0]),
    ahead=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_starts_never_exceed_rate_times_time_plus_burst(
    connection: Connection,
    steps: list[tuple[str, int, int, int]],
    tokens: int,
    period: int,
    burst: int,
    scale: float,
    ahead: float,
) -> None:
    connection.execute(
        "delete from graphile_worker._pgtasks_ratelimit_buckets; delete from graphile_worker._pgtasks_ratelimit_holders"
    )
    rule = f"{tokens}/{period}s burst {burst}"
    holders = [Holder(f"holder {number}") for number in range(3)]
    clock = 0.0
    starts: list[float] = []

    def call(number: int, wanted: int) -> Taken:
        holder = holders[number]
        return exchange(
            connection, holder.name, rule, wanted,
            lease=holder.lease, used=holder.used, age=clock - holder.last, ahead=ahead, at=clock,
        )  # fmt: skip

    for what, number, count, pause in steps:
        clock = round(clock + pause / 1000 * scale, 6)
        holder = holders[number]
        if what == "exchange":
            taken = call(number, count)
            holder.lease, holder.tokens, holder.used = taken.lease, taken.granted, 0
            holder.start = round(clock + taken.starts_in + 5e-7, 6)
            holder.until = clock + taken.starts_in + 0.75 * LIFETIME
        elif what == "lost answer":
            call(number, count)
            holder.tokens = 0
        elif what == "start" and holder.start <= clock < holder.until:
            started = min(count, holder.tokens)
            holder.tokens -= started
            holder.used += started
            starts += [clock] * started
            holder.last = clock
        elif what == "crash":
            holders[number] = Holder(f"{holder.name}'")  # another process takes its place
    assert excess(starts, tokens / period, burst) <= 1e-6 * len(starts) * tokens


@pytest.mark.parametrize(("rate", "burst"), [(200, 5), (2000, 100)])
def test_starts_of_threads_at_once_never_exceed_it_by_the_real_clock(database: str, rate: int, burst: int) -> None:
    starts: list[float] = []
    rule = f"{rate}/s burst {burst}"
    until = time.monotonic() + 1.5

    def work(number: int) -> None:
        lease = used = 0
        last = 0.0
        with psycopg.connect(database, autocommit=True) as conn:
            while time.monotonic() < until:
                age = time.monotonic() - last if used else 0.0
                taken = exchange(conn, str(number), rule, 10, lease=lease, used=used, age=age)
                lease, used = taken.lease, taken.granted
                for _ in range(taken.granted):
                    last = time.monotonic()
                    starts.append(last)
                time.sleep(min(taken.wait, 0.01))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert excess(starts, rate, burst) <= 0.01
    assert len(starts) >= burst


def test_exchanges_of_many_buckets_at_once_do_not_deadlock(database: str) -> None:
    keys = [f"tenant:{number}" for number in range(8)]
    barrier = threading.Barrier(4)

    def work(number: int) -> int:
        order = keys if number % 2 else keys[::-1]
        columns = len(keys)
        with psycopg.connect(database, autocommit=True) as conn:
            barrier.wait()
            for _ in range(50):
                conn.execute(
                    """select count(*) from graphile_worker._pgtasks_ratelimit_exchange(
                        %s, 1, 2.0, %s, %s, %s, %s, %s, %s::int[], %s::bigint[], %s::int[], %s::float8[], %s::int[],
                        %s::int[], %s::float8[])""",
                    (
                        str(number), order, ["tenant:*"] * columns, [10] * columns, [1.0] * columns, [5] * columns,
                        [None] * columns, [1] * columns, [0] * columns, [0.0] * columns, [0] * columns, [1] * columns,
                        [0.0] * columns,
                    ),
                )  # fmt: skip
        return 50

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [50] * 4


def test_times_of_tests_are_in_the_future_so_that_the_real_clock_is_not_in_them() -> None:
    assert EPOCH.year > 2026
