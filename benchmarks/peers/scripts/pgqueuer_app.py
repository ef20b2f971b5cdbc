"""PGQueuer's side: `pgqueuer_app.py work` or `pgqueuer_app.py add JOBS BATCH`. PG… variables name the database."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job  # noqa: TC002 - it looks at annotations
from pgqueuer.queries import Queries

BATCH = 1_000
POOL = 4


async def work() -> None:
    """Run jobs until a signal comes."""
    logging.disable(logging.WARNING)
    pool = await asyncpg.create_pool(min_size=2, max_size=POOL)
    queuer = PgQueuer.from_asyncpg_pool(pool)

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        """Do nothing."""

    await queuer.run(batch_size=BATCH)


async def add(jobs: int, batch: int) -> float:
    """Add jobs, and return how many seconds that took."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect()))
    began = time.perf_counter()
    for _ in range(0, jobs, batch):
        if batch == 1:
            await queries.enqueue("noop", None)
        else:
            await queries.enqueue(["noop"] * batch, [None] * batch, [0] * batch)
    return time.perf_counter() - began


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    if sys.argv[1] == "work":
        runner.run(work())
    else:
        print(runner.run(add(int(sys.argv[2]), int(sys.argv[3]))))
