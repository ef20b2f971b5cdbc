"""Many processes that do the same at the same instant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Forked, because to start so many interpreters takes far longer than what they are started for.
_CROWD = """
import json, sys, psycopg
from multiprocessing import get_context
{define}
fork = get_context("fork")
start = fork.Barrier({number})
def member(_):
    with psycopg.connect(sys.argv[1], autocommit=True) as conn:
        start.wait(60)
        return take(conn)
with fork.Pool({number}) as crowd:
    print(json.dumps(crowd.map(member, range({number}), chunksize=1)))
"""


def at_once(number: int, define: str, database: str) -> list[int]:
    """Return what `take(conn)`, which `define` has to define, returns in so many processes that call it at once."""
    done = subprocess.run(
        [sys.executable, "-c", _CROWD.format(define=define, number=number), database],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    taken: list[int] = json.loads(done.stdout)
    return taken
