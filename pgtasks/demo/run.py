"""The demo from beginning to end."""

from __future__ import annotations

import platform
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgtasks.demo.interrupts import Interrupts
from pgtasks.demo.source import BROKEN, SourceFile, library, library_files
from pgtasks.demo.store import SCHEMA, Store
from pgtasks.demo.worker import Worker
from pgtasks.errors import PgtasksError
from pgtasks.queue import migrate as migrations
from pgtasks.settings import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from pgtasks.demo.screen import Screen
    from pgtasks.settings import Settings

_LOOK: Final = 0.1
"""Seconds between two looks at how far the work has come."""
_LOOKING: Final = 5
"""After a look comes a pause at least so many times as long, for a look takes long where a million other jobs are."""
_STUCK: Final = 60.0
"""Seconds without any progress after which something is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One run of the demo."""

    settings: Settings
    """The command's settings."""
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
    """Lends a connection to the database, which is started for it if need be."""
    environment: Mapping[str, str]
    """Environment variables with which a worker finds the same database."""
    processes: int
    """How many worker processes to start."""
    files: int | None
    """How many files of the standard library to index at most; None: all of them."""
    screen: Screen
    """Where to write."""

    def run(self) -> None:
        """Run the demo, and remove all that it made, however it ends.

        Raises:
            PgtasksError: It cannot be run here, or the worker did not do its work.
            KeyboardInterrupt: Ctrl-C ended it.
        """
        root = library()
        files = [SourceFile("broken", BROKEN), *library_files(root, self.files)]
        self.screen.note(f"Indexing the standard library of Python {platform.python_version()}, {root}")
        with Interrupts() as interrupts:
            # From the bottom up: what was made last is removed first.
            with ExitStack() as made:
                store = self._open(made.enter_context(self.connect()))
                interrupts.hold()
                made.callback(store.clear)
                store.clear()  # what an earlier run left behind, if it was killed
                directory = made.enter_context(tempfile.TemporaryDirectory(prefix="pgtasks-demo-"))
                worker = Worker(self.processes, self.environment, Path(directory) / "worker.log")
                made.callback(worker.stop)
                self.screen.note(f"Started {' '.join(worker.arguments)}")
                self._add(store, files)
                self._follow(store, worker, interrupts, len(files))
                if interrupts.received:
                    self.screen.note("Stopping the worker, then removing what the demo has made")
                else:
                    self.screen.show(store.results(), self.processes)
            interrupts.end()

    def _open(self, connection: psycopg.Connection[Any]) -> Store:
        """See to it that there is a queue, and that the demo's own schema is free."""
        schema = self.settings.schema_name
        store = Store(connection, schema)
        store.claim()
        embedded = self.settings.conninfo is None
        if not embedded:
            self.screen.note(
                f"On the database at {redact(self.settings.conninfo or '')} this touches only a schema of its own, "
                f"{SCHEMA!r}, and jobs of its own tasks, 'demo_…'; it removes both at its end"
            )
        status = migrations.check(connection, schema)
        if not status.current and self.settings.migrate and (embedded or status.kind in {"missing", "empty"}):
            migrations.migrate(connection, schema)
            if not embedded:
                self.screen.note(f"There was no queue yet: installed one in schema {schema!r}, which stays")
        else:
            migrations.expect_current(connection, schema)
        return store

    def _add(self, store: Store, files: Sequence[SourceFile]) -> None:
        began = time.monotonic()
        store.create(files)
        self.screen.note(
            f"Inserted {len(files):,} rows, for each of which a trigger added a job, "
            f"in {time.monotonic() - began:.2f} s"
        )

    def _follow(self, store: Store, worker: Worker, interrupts: Interrupts, files: int) -> None:
        """Show the progress until nothing is left to do, or a signal has come."""
        with self.screen.progress(files) as tell:
            problem = _watch(store, worker, interrupts, tell)
        if problem is not None:
            for line in worker.tail():
                self.screen.note(f"  {line}")
            raise PgtasksError(f"{problem}; the end of its log is above")


def _watch(store: Store, worker: Worker, interrupts: Interrupts, tell: Callable[..., None]) -> str | None:
    """Return what is wrong with the worker, or None once nothing is left to do."""
    before = None
    moved = time.monotonic()
    while not interrupts.received:
        began = time.monotonic()
        work = store.progress()
        tell(work)
        if work.waiting == 0:
            return None
        if (code := worker.exit_code) is not None:
            return f"the worker ended with exit code {code} before its work was done"
        if work != before:
            before, moved = work, began
        elif began - moved > _STUCK:
            return f"the worker has done nothing for {_STUCK:g} s"
        time.sleep(max(_LOOK, _LOOKING * (time.monotonic() - began)))
    return None
