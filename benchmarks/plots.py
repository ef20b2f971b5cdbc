"""Bars, one file a group of figures that are worth comparing. Needs the extra `bench`."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.report import in_groups, number
from benchmarks.results import Role

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Result

COLORS = {Role.OURS: "#2f6f9f", Role.PEER: "#9aa5ad", Role.LIMIT: "#d9b26a", Role.BASELINE: "#d9b26a"}
MISSING = "there is no matplotlib; it comes with the extra: pip install --editable '.[bench]'"


def available() -> bool:
    """Whether plots can be made here."""
    return find_spec("matplotlib") is not None


def write(directory: Path, results: list[Result]) -> list[Path]:
    """Draw each group that has more than one figure, and return the files."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("svg")
    directory.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in in_groups(results):
        groups.setdefault((result.group, result.unit), []).append(result)
    return [_draw(directory, group, unit, bars) for (group, unit), bars in groups.items() if len(bars) > 1]


def _draw(directory: Path, group: str, unit: str, bars: list[Result]) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    bars = sorted(bars, key=lambda bar: bar.value)
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.42 * len(bars)), layout="constrained")
    drawn = axes.barh(
        [bar.title for bar in bars], [bar.value for bar in bars], color=[COLORS[bar.role] for bar in bars]
    )
    axes.bar_label(drawn, labels=[number(bar.value) for bar in bars], padding=4)
    axes.set_xlabel(unit)
    axes.set_title(group, loc="left")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    file = directory / (re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-") + ".svg")
    figure.savefig(file)
    plt.close(figure)
    return file
