"""Celery's side: an app for its own command, or `celery_app.py add JOBS`. BROKER names the Redis."""

from __future__ import annotations

import os
import sys
import time

from celery import Celery

app = Celery("celery_app", broker=os.environ["BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,  # as all others here, it keeps a job that a crash cuts off
    worker_prefetch_multiplier=100,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""


if __name__ == "__main__":
    noop.delay()  # so that connecting is not measured
    began = time.perf_counter()
    for _ in range(int(sys.argv[2]) - 1):
        noop.delay()
    print(time.perf_counter() - began)
