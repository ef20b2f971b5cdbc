"""Random calls of the SQL functions, compared with the model for as long as one likes.

    python -m tests.sql.properties --steps 200000 [--seed 1] [--postgres 15]

prints what was done. On a difference it prints the shortest sequence of calls that has it, and exits with status 1; the
same seed finds it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

import psycopg

from pgtasks.queue.migrate import migrate
from pgtasks.sql import DEFAULT_SCHEMA
from tests.servers import NEWEST, Servers, versions
from tests.sql.queue import Queue
from tests.sql.test_properties import run_machine

EXAMPLES = 200  # of one seed
STEPS = 60  # of one example


def main() -> int:
    """Run until enough steps are done or a difference is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sql.properties", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="default: a random one")
    parser.add_argument("--postgres", type=int, default=NEWEST, choices=sorted(versions()))
    options = parser.parse_args()

    servers, done, seed, start = Servers(), Counter[str](), options.seed, time.monotonic()
    try:
        server = servers.get(options.postgres)
        with psycopg.connect(server.conninfo(server.create_database()), autocommit=True) as conn:
            migrate(conn)
            queue = Queue(conn, DEFAULT_SCHEMA)
            while done["steps"] < options.steps:
                try:
                    done += run_machine(queue, seed=seed, max_examples=EXAMPLES, stateful_step_count=STEPS)
                except Exception:  # noqa: BLE001 - also what the functions raise is a difference
                    traceback.print_exc()
                    print(f"\nA difference after {done['steps']} steps without one, with --seed {seed}.")
                    return 1
                seconds = time.monotonic() - start
                print(f"seed {seed}: {done['steps']} steps, {done['steps'] / seconds:.0f} a second", flush=True)
                seed += 1
    finally:
        servers.close()
    for what, times in sorted(done.items()):
        print(f"{times:10} {what}")
    print("no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
