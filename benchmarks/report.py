"""A table for people, and JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.results import Result, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from rich.console import Console


def ratios(result: Result, results: Iterable[Result]) -> dict[str, float]:
    """What a figure is of each that it is compared with, by its name."""
    found = {name: result.value / value for name, value in result.references.items() if value}
    if result.role is not Role.OURS:
        return found
    for other in results:
        if other.group == result.group and other.role is not Role.OURS and other.value:
            found[other.short or other.title] = result.value / other.value
    return found


def print_table(console: Console, results: list[Result], failures: list[str]) -> None:
    """Print all figures, group by group."""
    table = Table(title="pgtasks benchmarks", title_justify="left")
    table.add_column("measurement", min_width=36)
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("rounds", justify="right", no_wrap=True)
    table.add_column("compared with")
    group = None
    for result in in_groups(results):
        if result.group != group:
            group = result.group
            table.add_section()
            table.add_row(f"[bold]{group}[/]")
        compared = [f"{ratio:.2f} x {name}" for name, ratio in ratios(result, results).items()]
        figure = f"{number(result.value)} {result.unit}"
        table.add_row(f"  {result.title}", figure, _spread(result), "; ".join(compared))
    console.print(table)
    for failure in failures:
        console.print(f"not measured: {failure}", style="yellow", markup=False, highlight=False)


def in_groups(results: list[Result]) -> list[Result]:
    """In the order in which groups began, with what ours is compared with first."""
    groups = {result.group: None for result in results}
    return [
        result
        for group in groups
        for ours in (False, True)
        for result in results
        if result.group == group and (result.role is Role.OURS) is ours
    ]


def as_json(
    conditions: Mapping[str, str], options: Mapping[str, Any], results: list[Result], failures: list[str]
) -> str:
    """All that was found out, with the ratios."""
    document = {
        "conditions": dict(conditions),
        "options": dict(options),
        "results": [{**asdict(result), "ratios": ratios(result, results)} for result in results],
        "failures": failures,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> tuple[dict[str, str], list[Result]]:
    """Read conditions and results of an earlier run."""
    document = json.loads(text)
    names = [each.name for each in fields(Result)]
    return document["conditions"], [
        Result(**{**{name: entry[name] for name in names}, "role": Role(entry["role"])})
        for entry in document["results"]
    ]


def write_json(file: Path, text: str) -> None:
    """Write the report where it was asked for, at once: who looks never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(file.name + ".part")
    half.write_text(text, encoding="utf-8")
    half.replace(file)


def number(value: float) -> str:
    """A figure with three or more digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _spread(result: Result) -> str:
    if result.low is None or result.high is None or result.low == result.high:
        return ""
    return f"{number(result.low)} to {number(result.high)}"
