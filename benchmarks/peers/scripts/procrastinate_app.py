"""Procrastinate's side: an app for its own command, or `procrastinate_app.py add JOBS BATCH`."""

from __future__ import annotations

import asyncio
import sys
import time

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector())


@app.task(name="noop")
async def noop() -> None:
    """Do nothing."""


async def add(jobs: int, batch: int) -> float:
    """Add jobs, and return how many seconds that took."""
    async with app.open_async():
        began = time.perf_counter()
        for _ in range(0, jobs, batch):
            if batch == 1:
                await noop.defer_async()
            else:
                await noop.batch_defer_async(*[{}] * batch)
        return time.perf_counter() - began


if __name__ == "__main__":
    print(asyncio.run(add(int(sys.argv[2]), int(sys.argv[3]))))
