"""Dramatiq's side: a module for its own command, or `dramatiq_app.py add JOBS`. BROKER names the Redis."""

from __future__ import annotations

import os
import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BROKER"]))


@dramatiq.actor
def noop() -> None:
    """Do nothing."""


if __name__ == "__main__":
    noop.send()  # so that connecting is not measured
    began = time.perf_counter()
    for _ in range(int(sys.argv[2]) - 1):
        noop.send()
    print(time.perf_counter() - began)
