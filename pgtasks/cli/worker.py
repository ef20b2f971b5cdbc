"""`pgtasks worker`: run jobs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgtasks.cli.database import announce, resolve_database
from pgtasks.cli.options import database_options, given_settings, logging_options
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pgtasks.embedded import Lease
    from pgtasks.settings import Settings

log = get_logger("pgtasks.worker")


@click.command
@click.argument("modules", nargs=-1, metavar="[MODULE[:APP]]...")
@click.option("--processes", type=int, metavar="N", help="Worker processes; one for each usable CPU by default.")
@click.option("--concurrency", type=int, metavar="N", help="Jobs that one process runs at a time; 10 by default.")
@click.option("--once", is_flag=True, help="End when no job is runnable any more, instead of waiting for new ones.")
@click.option(
    "--poll-interval",
    type=float,
    metavar="SECONDS",
    help="Time between two looks for jobs of an idle host; 1 by default.",
)
@click.option("--listen/--no-listen", default=None, help="Whether to listen for new jobs between two looks.")
@click.option("--migrate/--no-migrate", default=None, help="Whether to bring the schema up to date first.")
@click.option(
    "--shutdown-timeout",
    metavar="SECONDS",
    help="How long running jobs are waited for at shutdown before they are given back; 25 by default, or 'none'.",
)
@click.option(
    "--forbidden-flag",
    "forbidden_flags",
    multiple=True,
    metavar="FLAG",
    help="Leave jobs with this flag alone; may be given several times.",
)
@database_options
@logging_options
@click.pass_context
def worker(ctx: click.Context, /, *, once: bool, **_settings: object) -> None:
    """Run jobs of the tasks in MODULE, with a pool of worker processes.

    The first TERM or INT signal (Ctrl-C) lets running jobs finish, a second one gives them back and stops at once, a
    third one kills.
    """
    # Imported here, so that `pgtasks worker --help` need not load what runs jobs.
    from pgtasks.worker.run import run_worker  # noqa: PLC0415

    run_worker(given_settings(ctx), Path.cwd(), _resolve, once=once)


def _resolve(settings: Settings) -> AbstractContextManager[str]:
    for_programs = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    return resolve_database(settings, announce=_log_lease if for_programs else announce)


def _log_lease(lease: Lease) -> None:
    log.warning("embedded_started", directory=str(lease.directory), started=lease.started)
