"""What the user sees: notes and progress on stderr, the results on stdout."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pgtasks.demo.tasks import SUMMARY_KEY, demo_link_imports, demo_parse_file, demo_summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.demo.store import Failure, Results
    from pgtasks.demo.store import Progress as Work

_STEPS: Final = 4
"""So many lines tell of the progress where there is no terminal."""


class Screen:
    """Writes for people: in colours, with a bar that moves, on a terminal, and in plain lines elsewhere."""

    def __init__(self) -> None:
        self._notes = _Console(stderr=True, highlight=False)
        self._results = _Console(highlight=False)

    def note(self, text: str) -> None:
        """Say what is done now."""
        self._notes.print(text, markup=False, soft_wrap=not self._notes.is_terminal)

    @contextmanager
    def progress(self, files: int) -> Iterator[Callable[[Work], None]]:
        """Show how far the work has come: give a function that is to be called now and then.

        Args:
            files: How many there are.
        """
        if self._notes.is_terminal and not self._notes.is_dumb_terminal:
            with self._bar() as bar:
                task = bar.add_task("indexing", total=files, jobs="")
                yield lambda work: bar.update(
                    task, completed=work.indexed + work.failed, jobs=f"{work.runs:,} jobs", description=_doing(work)
                )
            return
        told = 0

        def tell(work: Work) -> None:
            nonlocal told
            done = work.indexed + work.failed
            if (step := done * _STEPS // files) > told:
                told = step
                self.note(f"{done:,} of {files:,} files, {work.runs:,} jobs")

        yield tell

    def show(self, results: Results, processes: int) -> None:
        """Write the tables.

        Args:
            results: What was found.
            processes: How many worker processes there were.
        """
        print_ = self._results.print
        print_()
        beside = Table.grid(padding=(0, 3))
        beside.add_row(_largest(results), _most_imported(results))
        print_(beside)
        print_(_work(results))
        self._say(
            f"{_count(results.modules, 'module', 'modules')} with {results.lines:,} lines, "
            f"{results.functions:,} functions and {results.classes:,} classes, "
            f"indexed by {_count(processes, 'process', 'processes')}: "
            f"{results.timed_jobs:,} jobs in {results.seconds:.1f} s, {_rate(results)} a second. "
            f"Nearly all of that time is Python parsing files."
        )
        self._say(
            f"The summary was asked for {_times(results.summaries_asked_for)} and made {_times(results.summaries)}: "
            f"each request has the job key '{SUMMARY_KEY}', so a new one only puts off the one that waits."
        )
        for failure in results.failures:
            self._say(_about(failure))

    def suggest(self, lines: list[tuple[str, str]]) -> None:
        """Write what to try next.

        Args:
            lines: Commands, each with what it does.
        """
        self._results.print()
        self._say("Try next:")
        for command, purpose in lines:
            self._results.print(f"  # {purpose}", markup=False, soft_wrap=True, style="dim")
            self._results.print(f"  {command}", markup=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        self._results.print(text, markup=False)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files, {task.fields[jobs]}"),
            TimeElapsedColumn(),
            console=self._notes,
        )


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command line answer a reader that has gone away, as it does for all commands."""
        raise BrokenPipeError


def _doing(work: Work) -> str:
    return "indexing" if work.waiting > 1 else "waiting for the retry" if work.waiting else "done"


def _largest(results: Results) -> Table:
    table = _table("Largest modules")
    table.add_column("module")
    for name in ("lines", "functions", "classes"):
        table.add_column(name, justify="right")
    for module, *numbers in results.largest:
        table.add_row(module, *(f"{number:,}" for number in numbers))
    return table


def _most_imported(results: Results) -> Table:
    table = _table("Most imported")
    table.add_column("module")
    table.add_column("by", justify="right")
    for module, importers in results.most_imported:
        table.add_row(module, f"{importers:,}")
    return table


def _work(results: Results) -> Table:
    table = _table("Who did the work")
    table.add_column("process", footer="all")
    shares = results.shares
    columns = {
        "jobs": [share.jobs for share in shares],
        demo_parse_file.name: [share.parsed for share in shares],
        demo_link_imports.name: [share.linked for share in shares],
        demo_summarize.name: [share.summaries for share in shares],
    }
    for name, numbers in columns.items():
        table.add_column(name, justify="right", footer=f"{sum(numbers):,}")
    for index, share in enumerate(shares):
        table.add_row(str(share.pid), *(f"{numbers[index]:,}" for numbers in columns.values()))
    table.show_footer = True
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _about(failure: Failure) -> str:
    return (
        f"{Path(failure.path).name} was tried {_times(failure.attempts)}, then its job was kept as permanently failed: "
        f"{failure.last_error}"
    )


def _rate(results: Results) -> str:
    return f"{results.timed_jobs / results.seconds:,.0f}" if results.seconds > 0 else "all"


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count:,} times"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
