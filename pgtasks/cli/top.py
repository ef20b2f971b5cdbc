"""`pgtasks top`: see what goes on, as it goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

import click

from pgtasks.cli.application import application
from pgtasks.cli.listing import limit_option
from pgtasks.cli.options import database_options
from pgtasks.cli.tables import on_terminal, show_json, show_table
from pgtasks.cli.top_frame import Looks, frame_object
from pgtasks.cli.top_tables import headline, queue_part, running_part, task_part, totals, worker_part
from pgtasks.cli.values import delay
from pgtasks.database.errors import is_outage, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.app import App
    from pgtasks.cli.top_frame import Frame

_SHORTEST: Final = 0.1
_LONGEST: Final = 3600.0


def _interval(ctx: click.Context, param: click.Parameter, text: str) -> float:
    seconds = delay(text)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise click.BadParameter(f"{text!r} is out of range: it must be from 0.1 to 3600 seconds", ctx, param)
    return seconds


@click.command
@click.option(
    "--interval",
    default="1",
    callback=_interval,
    metavar="TIME",
    help="Time between two frames: 1 for a second, which is the default, or 0.5, 10s, 1m.",
)
@click.option("--once", is_flag=True, help="Print one frame and end, as happens anyway where stdout is no terminal.")
@limit_option(50)
@click.option("--json", "as_json", is_flag=True, help="Print each frame as a JSON object on one line, until Ctrl-C.")
@database_options
@click.pass_context
def top(ctx: click.Context, /, *, interval: float, once: bool, limit: int, as_json: bool, **_settings: object) -> None:
    """Watch workers, running jobs and their progress.

    'q' or Ctrl-C ends it. Jobs are counted up to 10,000 of each state; running ones are listed from the one that has
    been held for longest, as many as there is room for. Rates are those between the last two heartbeats of each worker,
    and at first those since its start.
    """
    with application(ctx) as app, _ended_quietly():
        looks = Looks(app)
        if as_json:
            _stream(looks, interval, limit, once=once)
        elif once or not on_terminal() or os.environ.get("TERM") == "dumb":
            _print(looks.frame(limit))
        else:
            _watch(app, looks, interval, limit)


def _stream(looks: Looks, interval: float, limit: int, *, once: bool) -> None:
    due = time.monotonic()
    while True:
        show_json([frame_object(looks.frame(limit))])
        if once:
            return
        sys.stdout.flush()
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _watch(app: App, looks: Looks, interval: float, limit: int) -> None:
    from pgtasks.cli.top_screen import Screen  # noqa: PLC0415 - what goes elsewhere needs no terminal

    frame = looks.frame(limit)  # before the terminal is taken over, so that an error stays to be read
    with Screen(f"schema {app.schema}") as screen:
        screen.draw(frame)
        while screen.wait(interval):
            trouble = None
            try:
                frame = looks.frame(min(limit, screen.height))
            except Exception as error:
                if not is_outage(error):
                    raise
                trouble = reason_of(error)
            screen.draw(frame, trouble)


def _print(frame: Frame) -> None:
    click.echo(f"{headline(frame)}; {', '.join(f'{value} {name}' for name, value in totals(frame))}")
    for part in (worker_part(frame), task_part(frame), queue_part(frame), running_part(frame)):
        if part.rows:
            click.echo()
            show_table(part.columns, part.rows)


@contextmanager
def _ended_quietly() -> Iterator[None]:
    """Let Ctrl-C end the block as a matter of course, and the signals that end a command give the terminal back."""
    before = {
        number: signal.signal(number, _end)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup stays in force
    }
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)
