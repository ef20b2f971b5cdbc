"""The live view of `pgtasks top`: it has the terminal to itself, and is drawn anew for each frame."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Any, Final, Self

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgtasks.cli.top_tables import (
    PERCENT,
    headline,
    queue_part,
    running_part,
    task_part,
    totals,
    worker_part,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from pgtasks.cli.top_frame import Frame
    from pgtasks.cli.top_tables import Part

_STYLES: Final = {"failed": "red", "running": "green", "ready": "cyan"}
_HEAD: Final = 3
"""Lines above the tables."""
_FEWEST_NAMES: Final = 3
_BAR: Final = 12
"""Characters of a bar."""
_ROOM_FOR_BAR: Final = 90
"""Columns from which on there are bars."""
_NARROWEST: Final = 10
"""Characters that a column of text keeps, and one of notes:"""
_NARROWEST_NOTE: Final = 24
_QUIT: Final = (b"q", b"Q", b"\x03", b"\x04")


class Screen:
    """The terminal, for the length of a `with` block.

    Args:
        source: Which database is looked at.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._console = _Console(highlight=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._keys = _Keys()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self._keys)
            self._stack.enter_context(self._live)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    @property
    def height(self) -> int:
        """How many lines it has."""
        return self._console.size.height

    def draw(self, frame: Frame, trouble: str | None = None) -> None:
        """Show a frame.

        Args:
            frame: What there is to be seen.
            trouble: Why it is not a new one.
        """
        self._live.update(self._layout(frame, trouble), refresh=True)

    def wait(self, seconds: float) -> bool:
        """Wait for the next frame; return False if there is to be none."""
        return self._keys.wait(seconds)

    def _layout(self, frame: Frame, trouble: str | None) -> RenderableType:
        room, width = self.height - _HEAD, self._console.width
        parts: list[RenderableType] = [*self._head(frame, trouble), Text()]
        workers = worker_part(frame)
        if workers.rows:
            most = max(2, room // 4)
            parts += [_table(workers, most, width), *_more(len(workers.rows) - most, "worker"), Text()]
            room -= min(len(workers.rows), most) + 2 + (len(workers.rows) > most)
        tasks, queues = task_part(frame), queue_part(frame)
        most = min(max(len(tasks.rows), len(queues.rows)), room // 3)
        if most >= min(_FEWEST_NAMES, max(len(tasks.rows), len(queues.rows))) > 0:
            parts += [_beside(tasks, queues, most, width), Text()]
            room -= most + 2
        running = running_part(frame)
        if running.rows:
            ascii_only = self._console.options.ascii_only
            parts.append(_table(running, max(1, room - 1), width, bar=PERCENT, ascii_only=ascii_only))
        else:
            parts.append(Text("no job is running", style="dim"))
        return Group(*parts)

    def _head(self, frame: Frame, trouble: str | None) -> list[Text]:
        title = _line((" pgtasks top ", "reverse"), f"  {headline(frame)}  ", (self._source, "dim"))
        now = f"{frame.at:%H:%M:%S}"
        space = self._console.width - cell_len(title.plain) - len(now)
        if space > 0:
            title.append(" " * space + now)
        if trouble is not None:
            return [title, _line((f" {trouble}; trying again; q quits", "red"))]
        counts = _line(" ")
        for name, value in totals(frame):
            counts.append(value, style=_STYLES.get(name, "") + " bold")
            counts.append(f" {name}   ")
        counts.append("q quits", style="dim")
        return [title, counts]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command line answer a reader that has gone away, as it does for all commands."""
        raise BrokenPipeError


class _Keys:
    """The keyboard, key by key and without an echo, if standard input is one."""

    def __init__(self) -> None:
        self._descriptor: int | None = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._descriptor is not None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
            mode = termios.tcgetattr(self._descriptor)
            # Stopped by Ctrl-Z it would leave the shell with this screen.
            mode[6][termios.VSUSP] = b"\0"
            termios.tcsetattr(self._descriptor, termios.TCSANOW, mode)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._descriptor is not None and self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a key ends it; return False then."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._descriptor is None:
                time.sleep(left)
            elif select.select([self._descriptor], [], [], left)[0]:
                pressed = os.read(self._descriptor, 100)
                if not pressed or any(key in pressed for key in _QUIT):
                    return False
        return True


def _table(part: Part, most: int, room: int, *, bar: int | None = None, ascii_only: bool = False) -> Table:
    """Draw the first rows, a line each: what is too wide is cut off, and what has no room at all is left out."""
    rows = part.rows[:most]
    widths = {
        index: max(map(cell_len, (column.name, *(row[index] for row in rows))))
        for index, column in enumerate(part.columns)
        if any(row[index] for row in rows)
    }
    drawn = bar if room >= _ROOM_FOR_BAR and bar in widths else None
    if drawn is not None:
        widths[drawn] += _BAR + 1
    _fit(part, widths, room)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for index, width in widths.items():
        column = part.columns[index]
        table.add_column(
            column.name, width=width, no_wrap=True, overflow="ellipsis", justify="right" if column.right else "left"
        )
    for row in rows:
        cells = [
            _bar(row[index], width, ascii_only=ascii_only) if index == drawn else _cell(part, row, index, width)
            for index, width in widths.items()
        ]
        table.add_row(*cells)
    return table


def _fit(part: Part, widths: dict[int, int], room: int) -> None:
    """Make columns narrower, the widest of those that may be first, and leave spare ones out where that does not do."""
    spare, narrowest_note = list(part.spare), _NARROWEST_NOTE
    while sum(widths.values()) + 2 * len(widths) > room:
        wide = {
            index: width
            for index, width in widths.items()
            if part.columns[index].fold
            and width > (narrowest_note if part.columns[index].name == "note" else _NARROWEST)
        }
        if wide:
            widths[max(wide, key=wide.__getitem__)] -= 1
        elif spare:
            name = spare.pop(0)
            for index in [index for index in widths if part.columns[index].name == name]:
                del widths[index]
        elif narrowest_note > _NARROWEST:
            narrowest_note = _NARROWEST
        else:
            return


def _cell(part: Part, row: tuple[str, ...], index: int, width: int) -> Text:
    name, text = part.columns[index].name, row[index]
    if name == "worker" and len(text) > width:
        text = f"…{text[len(text) - width + 1 :]}"  # workers of a host differ at their ends
    return Text(text, style=_STYLES.get(name, "") if text not in ("", "0") else "")


def _bar(percent: str, width: int, *, ascii_only: bool) -> Text:
    if not percent:
        return Text()
    full = int(percent.removesuffix(" %")) * _BAR // 100
    done, left = ("#", ".") if ascii_only else ("━", "─")
    return _line((done * full, "green"), (left * (_BAR - full), "dim"), f"{percent:>{width - _BAR}}")


def _beside(left: Part, right: Part, most: int, room: int) -> RenderableType:
    parts = [part for part in (left, right) if part.rows]
    grid = Table.grid(padding=(0, 2))
    grid.add_row(*(_table(part, most, room // len(parts) - 2) for part in parts))
    return grid


def _more(left: int, what: str) -> list[Text]:
    return [Text(f" and {left} more {what}{'' if left == 1 else 's'}", style="dim")] if left > 0 else []


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
