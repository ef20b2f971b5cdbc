"""Tables on a terminal, drawn by rich. A module of its own, since output that goes elsewhere does not need rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.cli.tables import Column

_STYLES: Final = {"failed": "red", "running": "green", "ready": "cyan"}
"""Colours of the states of jobs; other cells have none."""


def draw_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table as wide as the terminal allows, without columns that are empty. The cells must be safe for it."""
    shown = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for index in shown:
        column = columns[index]
        widest = max(cell_len(text) for text in (column.name, *(row[index] for row in rows)))
        table.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.fold,
            min_width=None if column.fold else widest,
        )
    for row in rows:
        table.add_row(*(Text(row[index], style=_STYLES.get(row[index], "")) for index in shown))
    Console(highlight=False).print(table)
