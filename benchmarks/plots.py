"""Plots of what is worth seeing, in files whose names do not change. Needs the extra `bench`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks import backlog, latency, scaling, snapshot, soak, throughput
from benchmarks.report import number
from benchmarks.results import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.results import Result

    Axes = Any
    Figure = Any

MISSING = "there is no matplotlib; it comes with the extra: pip install --editable '.[bench]'"
OURS, PEER, LIMIT, SECOND, GRID, QUIET = "#1f6fa8", "#a9b4bc", "#e0b252", "#c8553d", "#e3e7ea", "#5c6770"
COLORS = {Role.OURS: OURS, Role.PEER: PEER, Role.LIMIT: LIMIT, Role.BASELINE: LIMIT}
NAMES = {Role.OURS: "pgtasks", Role.PEER: "others", Role.LIMIT: "limits: no framework"}
CONDITIONS = ("pgtasks", "PostgreSQL", "Python")
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": GRID,
    "legend.frameon": False,
    "svg.hashsalt": "pgtasks",  # the same figures give the same file
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


def available() -> bool:
    """Whether plots can be made here."""
    return find_spec("matplotlib") is not None


def write(directory: Path, results: Sequence[Result], conditions: Mapping[str, str]) -> list[Path]:
    """Draw all plots for which there are figures, and return the files."""
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("svg")
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    with mpl.rc_context(STYLE):
        for name, draw in PLOTS.items():
            figure = draw(results)
            if figure is not None:
                files.append(_save(figure, directory / f"{name}.svg", conditions))
    return files


def draw_throughput(results: Sequence[Result]) -> Figure | None:
    """No-op jobs a second, of everybody."""
    bars = [result for result in results if result.group == throughput.NOOP]
    return _bars(bars, "No-op jobs a second, two processes", "jobs a second; more is better")


def draw_adding(results: Sequence[Result]) -> Figure | None:
    """Jobs that one client adds, a batch in a call."""
    bars = [result for result in results if result.group == "adding many at once, 1 client"]
    return _bars(bars, "Jobs that one client adds, many in a call", "jobs a second; more is better")


def draw_latency(results: Sequence[Result]) -> Figure | None:
    """Waits of everybody that tells them, with nothing else to do and at half load."""
    panels = [where for where in latency.PLACES if any(result.group.endswith(where) for result in results)]
    wanted = [result for result in results if result.group.startswith("latency ")]
    if not panels or not wanted:
        return None
    titles = list(dict.fromkeys(result.title for result in wanted))
    figure, rows = _figure(len(panels), (10, 1.5 + 0.62 * len(titles)), sharey=True)
    for axes, where in zip(rows, panels, strict=True):
        for offset, name, shade in ((0.19, "p50", 1.0), (-0.19, "p99", 0.55)):
            bars = {result.title: result for result in wanted if result.group == f"latency {name}, {where}"}
            drawn = axes.barh(
                [titles.index(title) + offset for title in bars],
                [bar.value for bar in bars.values()],
                height=0.36,
                color=[COLORS[bar.role] for bar in bars.values()],
                alpha=shade,
            )
            axes.bar_label(drawn, [f"{name} {number(bar.value)}" for bar in bars.values()], padding=4, fontsize=8)
        axes.set_yticks(range(len(titles)), titles)
        axes.set(title=where, xlabel="ms; less is better")
        axes.margins(x=0.25)
        axes.grid(visible=False, axis="y")
    _title(figure, "From before a job is added to its handler's first line")
    return figure


def draw_scaling(results: Sequence[Result]) -> Figure | None:
    """Throughput over processes, beside what the slots could do."""
    points = [result for result in results if result.group == scaling.GROUP]
    slots = sorted({int(point.at["slots"]) for point in points})
    if not points:
        return None
    figure, panels = _figure(len(slots), (10, 4.2))
    for axes, each in zip(panels, slots, strict=True):
        here = [point for point in points if point.at["slots"] == each]
        ideal = {float(point.at["processes"]): point.references["the ideal"] for point in here}
        axes.plot(list(ideal), list(ideal.values()), "--", color=QUIET, label="ideal: slots / 10 ms")
        for kind, color in (("plain function", OURS), ("async def", SECOND)):
            line = [point for point in here if point.at["kind"] == kind]
            axes.errorbar(
                [float(point.at["processes"]) for point in line],
                [point.value for point in line],
                yerr=[
                    [point.value - (point.value if point.low is None else point.low) for point in line],
                    [(point.value if point.high is None else point.high) - point.value for point in line],
                ],
                color=color,
                marker="o",
                capsize=3,
                label=kind,
            )
        axes.set_xticks(list(ideal), [f"{processes:g}" for processes in ideal])
        axes.set(title=f"{each} slots a process", xlabel="processes", ylabel="jobs a second")
        axes.set_ylim(bottom=0)
        _thousands(axes.yaxis)
        axes.legend(loc="upper left")
    _title(figure, "Throughput over processes, jobs that wait for 10 ms")
    return figure


def draw_claims(results: Sequence[Result]) -> Figure | None:
    """What a claim costs in each scene, and how many times what it costs in a clean table that is."""
    prefix = f"{backlog.GROUP}, {backlog.MEAN}"
    bars = [result for result in results if result.group.startswith(prefix)][::-1]
    clean = next((bar.value for bar in bars if bar.role is Role.BASELINE), None)
    if not bars or not clean:
        return None
    figure, (axes,) = _figure(1, (9.5, 1.6 + 0.36 * len(bars)))
    drawn = axes.barh(
        [bar.title for bar in bars], [bar.value for bar in bars], color=[COLORS[bar.role] for bar in bars]
    )
    axes.bar_label(
        drawn, [f"{number(bar.value)} ms   {bar.value / clean:.1f} x" for bar in bars], padding=5, color=QUIET
    )
    axes.axvline(clean, color=QUIET, linestyle="--", linewidth=1)
    size = bars[0].group.removeprefix(prefix)
    axes.set(xlabel="ms, and how many times what it costs in the clean table; less is better")
    _title(figure, f"Mean cost of {backlog.GROUP}, by what is in the table{size}")
    axes.margins(x=0.3)
    axes.grid(visible=False, axis="y")
    return figure


def draw_snapshot(results: Sequence[Result]) -> Figure | None:
    """Throughput over time, without and with a snapshot that is held open."""
    curves = [result for result in results if result.series and result.title == snapshot.WHOLE]
    if not curves:
        return None
    figure, (axes,) = _figure(1, (9.5, 4.2))
    for curve in curves:
        kind = str(curve.at["kind"])
        color = OURS if kind == snapshot.FREE else SECOND
        axes.stairs(
            [rate for _, rate in curve.series],
            [0.0, *(end for end, _ in curve.series)],
            baseline=None,
            color=color,
            linewidth=2,
            label=kind,
        )
    jobs = int(curves[0].at["jobs"])
    axes.set(xlabel="seconds since the workers began", ylabel="jobs a second, in each tenth of the jobs")
    _title(figure, f"Throughput over time: {jobs:,} no-op jobs, two processes")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    _thousands(axes.yaxis)
    axes.legend(loc="lower left")
    return figure


def draw_soak(results: Sequence[Result]) -> Figure | None:
    """Waits and sizes, minute by minute."""
    points = [result for result in results if result.group.startswith(soak.GROUP) and "measure" in result.at]
    if not points:
        return None
    figure, panels = _figure(2, (10, 3.8))
    sides = (
        (panels[0], "how long jobs wait", "ms", ("wait p50", "wait p99")),
        (panels[1], "size at the end of each minute", "MB", ("table", "its indexes")),
    )
    for axes, title, unit, names in sides:
        for name, color in zip(names, (OURS, SECOND), strict=True):
            line = [point for point in points if point.at["measure"] == name]
            ends = [float(point.at["end"]) / 60 for point in line]
            axes.plot(ends, [point.value for point in line], marker="o", color=color, label=name)
        axes.set(title=title, xlabel="minutes", ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.legend(loc="best")
    rate = next(point.value for point in points if point.at["measure"] == "jobs added")
    _title(figure, f"{rate:,.0f} no-op jobs a second, all the time")
    return figure


PLOTS: dict[str, Callable[[Sequence[Result]], Figure | None]] = {
    "throughput": draw_throughput,
    "adding": draw_adding,
    "latency": draw_latency,
    "scaling": draw_scaling,
    "claims": draw_claims,
    "snapshot": draw_snapshot,
    "soak": draw_soak,
}
"""By the name of the file, which the documentation embeds."""


def _figure(columns: int, size: tuple[float, float], *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False, sharey=sharey)
    return figure, list(axes[0])


def _bars(bars: Iterable[Result], title: str, unit: str) -> Figure | None:
    """Horizontal bars, the longest on top, in the colors of what they stand for."""
    bars = sorted(bars, key=lambda bar: bar.value)
    if not bars:
        return None
    from matplotlib.patches import Patch  # noqa: PLC0415 - optional

    figure, (axes,) = _figure(1, (9.5, 1.6 + 0.4 * len(bars)))
    drawn = axes.barh(
        [bar.title for bar in bars], [bar.value for bar in bars], color=[COLORS[bar.role] for bar in bars]
    )
    axes.bar_label(drawn, [f"{bar.value:,.0f}" for bar in bars], padding=5, color=QUIET)
    roles = [role for role in NAMES if any(bar.role is role for bar in bars)]
    axes.legend(handles=[Patch(color=COLORS[role], label=NAMES[role]) for role in roles], loc="lower right")
    axes.set(xlabel=unit)
    _title(figure, title)
    axes.margins(x=0.14)
    axes.grid(visible=False, axis="y")
    _thousands(axes.xaxis)
    return figure


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold")


def _thousands(axis: Any) -> None:
    axis.set_major_formatter("{x:,.0f}")


def _save(figure: Figure, file: Path, conditions: Mapping[str, str]) -> Path:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional

    known = [f"{name} {conditions[name]}" for name in CONDITIONS if name in conditions]
    known += [f"{conditions[name]} {name}" for name in ("cores",) if name in conditions]
    figure.supxlabel(", ".join(known), x=0.99, ha="right", fontsize=8, color=QUIET)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
