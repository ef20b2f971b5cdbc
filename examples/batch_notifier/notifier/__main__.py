"""Writes comments, and runs a worker until everybody has heard of them."""

import subprocess
import sys
import time

from notifier.comments import light_up, write
from pgtasks import current_app

WORKER = [sys.executable, "-m", "pgtasks", "worker", "notifier.tasks", "--processes", "1", "--concurrency", "1"]


def main() -> None:
    """Do all of it."""
    app = current_app()
    subprocess.run([sys.executable, "-m", "pgtasks", "migrate"], check=True)
    with app.connection() as connection:
        connection.execute("create schema if not exists notifier")
        connection.execute("create table if not exists notifier.comments (article text, author text, text text)")
        with connection.transaction():
            for author in ("Barbara", "Radia", "Edsger"):
                write(connection, "On sorting", author, "I see it otherwise.")
            light_up(connection)
    print("3 comments are written, and these jobs wait:", flush=True)
    for job in sorted(app.jobs.list().jobs, key=lambda job: job.id):
        print(" ", job.task, job.key or "", flush=True)
    with subprocess.Popen([*WORKER, "--log-level", "error"]) as worker:
        while app.jobs.list(limit=1).jobs:
            time.sleep(0.1)
        worker.terminate()


if __name__ == "__main__":
    main()
