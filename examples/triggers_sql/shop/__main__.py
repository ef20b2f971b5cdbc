"""Runs the SQL, as psql would, and then a worker. There is no Python that adds a job."""

import subprocess
import sys
from pathlib import Path

from pgtasks import current_app

HERE = Path(__file__).parent.parent


def main() -> None:
    """Do all of it."""
    subprocess.run([sys.executable, "-m", "pgtasks", "migrate"], check=True)
    for name in ("schema.sql", "a_day.sql"):
        with current_app().connection() as connection:
            connection.execute((HERE / name).read_bytes())
    # One job at a time, so that the lines below come in order.
    options = ["--once", "--processes", "1", "--concurrency", "1", "--log-level", "error"]
    subprocess.run([sys.executable, "-m", "pgtasks", "worker", "shop.tasks", *options], check=True)


if __name__ == "__main__":
    main()
