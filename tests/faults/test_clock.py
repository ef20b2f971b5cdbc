"""A worker whose clock is wrong: the database's counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.hosts import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.arena import Arena


# What a program sees instead of the C library's functions. The clock that nobody can set stays right: with Debian's
# libfaketime 0.9.10 either that is wrong too, or `time.sleep` raises.
WRONG_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t offset(void) { return atol(getenv("CLOCK_OFFSET")); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*right)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = right(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int (*right)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = right(now, zone);
    if (!failed) now->tv_sec += offset();
    return failed;
}

time_t time(time_t *now) {
    time_t (*right)(time_t *) = dlsym(RTLD_NEXT, "time");
    time_t seconds = right(NULL) + offset();
    if (now) *now = seconds;
    return seconds;
}
"""
COMPILER = shutil.which("cc")


@pytest.fixture
def wrong_clock(tmp_path: Path) -> Callable[[int], dict[str, str]]:
    """Make the environment of a program whose clock is so many seconds off."""
    assert COMPILER is not None
    (source := tmp_path / "clock.c").write_text(WRONG_CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda seconds: {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(seconds)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the wrong clock is made for Linux")
@pytest.mark.skipif(COMPILER is None, reason="a wrong clock is made by a C compiler, and there is none")
def test_workers_whose_clocks_are_two_hours_off_run_what_is_due_and_nothing_else(
    arena: Arena, wrong_clock: Callable[[int], dict[str, str]], times: Callable[[int, int], int]
) -> None:
    later = arena.value("select id from graphile_worker.add_job('plain', run_at := now() + interval '1 hour')")
    arena.book(20)
    arena.add(times(100, 2000))
    # Each would take the other for dead, or never, if it went by its own clock.
    slow, fast = (arena.start(env={**QUICK, **wrong_clock(seconds)}) for seconds in (-7200, 7200))
    for host in (slow, fast):
        host.wait_for("worker_ready")
    hours = [{record["timestamp"][:13] for record in host.records()} for host in (slow, fast)]
    assert not hours[0] & hours[1]
    arena.keep_busy(200)
    arena.some_runs()
    fast.kill_process(arena.rng.choice(list(fast.living())))
    arena.settle()
    assert arena.rows("select attempts, locked_at from graphile_worker.jobs where id = %s", later) == [(0, None)]
    arena.rows("select graphile_worker.complete_jobs(array[%s::bigint])", later)
    outcome = arena.finish()
    for host in (slow, fast):
        assert {run.pid for run in outcome.story.runs} & set(host.process_ids())
    assert outcome.interruptions == {}
