"""`pgtasks worker`: run jobs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgtasks.cli.database import announce, resolve_database
from pgtasks.cli.options import absolute_path, database_options, given_settings, logging_options
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pgtasks.embedded import Lease
    from pgtasks.settings import Settings

log = get_logger("pgtasks.worker")


@click.command
@click.argument("modules", nargs=-1, metavar="[MODULE[:APP]]...")
@click.option(
    "--tasks-dir",
    type=click.Path(),
    metavar="DIR",
    callback=absolute_path,
    help="Run the executables and Python files in DIR as tasks, too; a module need not be named then.",
)
@click.option(
    "--crontab",
    type=click.Path(),
    metavar="FILE",
    callback=absolute_path,
    help="Add jobs at the times in this file; ./crontab by default, if it is there, or 'none'.",
)
@click.option("--processes", type=int, metavar="N", help="Worker processes; one for each usable CPU by default.")
@click.option("--concurrency", type=int, metavar="N", help="Jobs that one process runs at a time; 10 by default.")
@click.option("--once", is_flag=True, help="End when no job is runnable any more, instead of waiting for new ones.")
@click.option(
    "--poll-interval",
    type=float,
    metavar="SECONDS",
    help="Time between two looks for jobs of an idle host; 2 by default.",
)
@click.option("--listen/--no-listen", default=None, help="Whether to listen for new jobs between two looks.")
@click.option(
    "--listen-url",
    metavar="URL",
    help="Where to listen, if the database URL leads to a pooler in transaction mode: the same database without it.",
)
@click.option("--migrate/--no-migrate", default=None, help="Whether to bring the schema up to date first.")
@click.option(
    "--shutdown-timeout",
    metavar="SECONDS",
    help="How long running jobs are waited for at shutdown before they are given back; 25 by default, or 'none'.",
)
@click.option(
    "--job-timeout",
    metavar="SECONDS",
    help="How long a job may run before it is asked to stop, where its task sets no timeout; 'none' by default.",
)
@click.option(
    "--job-grace",
    metavar="SECONDS",
    help="How long such a job may take to stop before its process is killed; 5 by default, or 'none'.",
)
@click.option(
    "--forbidden-flag",
    "forbidden_flags",
    multiple=True,
    metavar="FLAG",
    help="Leave jobs with this flag alone; may be given several times.",
)
@click.option("--max-jobs", metavar="N", help="Replace a process after about N jobs; 'none' by default.")
@click.option("--max-memory", metavar="MB", help="Replace a process that takes so many megabytes; 'none' by default.")
@click.option("--max-lifetime", metavar="SECONDS", help="Replace a process after so long; 'none' by default.")
@click.option(
    "--reload",
    is_flag=True,
    help="Import the modules anew when a Python file here, or any task's file, changes: to develop.",
)
@click.option("--health-port", metavar="N", help="Answer /live and /ready by HTTP at this port; 'none' by default.")
@click.option("--health-address", metavar="HOST", help="Answer there; 127.0.0.1 by default.")
@click.option(
    "--stalled-after",
    type=float,
    metavar="SECONDS",
    help="How long a process may show no sign of life before /live says so; 30 by default.",
)
@database_options
@logging_options
@click.pass_context
def worker(ctx: click.Context, /, *, once: bool, reload: bool, **_settings: object) -> None:
    """Run jobs of the tasks in MODULE and in files, with a pool of worker processes.

    The first TERM or INT signal (Ctrl-C) lets running jobs finish, a second one gives them back and stops at once, a
    third one kills, and so does QUIT. HUP imports the modules anew and replaces the processes one by one. TTIN and TTOU
    add and remove a process. USR1 writes all stacks to stderr.
    """
    if once and reload:
        raise click.UsageError("--once ends when there is nothing to do, and --reload waits: give one of them")
    # Imported here, so that `pgtasks worker --help` need not load what runs jobs.
    from pgtasks.worker.run import run_worker  # noqa: PLC0415

    run_worker(given_settings(ctx), Path.cwd(), _resolve, once=once, reload=reload)


def _resolve(settings: Settings) -> AbstractContextManager[str]:
    for_programs = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    return resolve_database(settings, announce=_log_lease if for_programs else announce)


def _log_lease(lease: Lease) -> None:
    log.warning("embedded_started", directory=str(lease.directory), started=lease.started)
