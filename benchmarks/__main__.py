"""`make bench`: how fast pgtasks is, beside its peers and the database's own limits in the same run.

The server is an embedded PostgreSQL with the settings that initdb gives it, in a directory that is removed afterwards,
or the one of --server. Jobs count when their store says that they are done, not when a handler was called.
"""

from __future__ import annotations

import argparse
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks import (
    adding,
    backlog,
    fairness,
    footprint,
    latency,
    plots,
    plugins,
    scaling,
    snapshot,
    soak,
    throughput,
)
from benchmarks.conditions import conditions, warning
from benchmarks.peers import PEERS, UnavailableError
from benchmarks.report import as_json, from_json, print_table, write_json
from benchmarks.results import TROUBLE
from benchmarks.server import running
from benchmarks.suite import Family, Suite, run
from benchmarks.workers import queue_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.peers import Peer
    from benchmarks.results import Result
    from benchmarks.server import Server

FAMILIES = (
    Family("throughput", "jobs a second that two processes do, and what a job costs", 5, throughput.measure),
    Family("adding", "jobs a second that 1 to 8 clients add", 2.5, adding.measure),
    Family("latency", "from before adding to the handler's first line, idle and at half load", 2, latency.measure),
    Family("scaling", "1 to 8 processes on jobs of 10 ms", 3, scaling.measure),
    Family("fairness", "short jobs among long ones, with one host and with two", 1.5, fairness.measure),
    Family("footprint", "start-up, memory, and what idle costs", 1, footprint.measure),
    Family("backlog", "what a claim costs, by what else is in the table", 2.5, backlog.measure),
    Family("snapshot", "throughput over time, without and with a transaction that stays open", 1.5, snapshot.measure),
    Family("plugins", "jobs a second with no plugin, with each, and with all", 3, plugins.measure),
    Family("soak", "waits and sizes, minute by minute, at half of what two processes do", 3.5, soak.measure),
)
NONE = "none"
INTERRUPTED = 130
"""Exit code, as a shell has it after Ctrl-C."""
WIDTH = 140
"""The least that the table takes to be readable, as where the output goes to a file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    options = parse(arguments)
    console = Console()
    console = Console(width=max(console.width, WIDTH))
    if options.list:
        list_names(console)
        return
    if options.redraw is not None:
        conditions_then, results = from_json(options.redraw.read_text(encoding="utf-8"))
        draw(console, options.plots, results, conditions_then)
        return
    families = [family for family in FAMILIES if family.name in (options.only or [family.name])]
    kinds = [peer for peer in PEERS if peer.name in (options.peers or [peer.name])]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it stops its servers, too
    with ExitStack() as stack:
        server = stack.enter_context(running(options.server))
        with server.connect() as connection:
            found = conditions(connection)
        say_conditions(console, found)
        queue = stack.enter_context(queue_on(server))
        suite = Suite(
            server, queue, console, options.jobs, options.rounds, options.scale, peers=[], minutes=options.minutes
        )
        suite.keep = lambda: keep(options, found, suite)
        suite.peers += open_peers(stack, kinds, server, suite)
        interrupted = False
        try:
            run(families, suite)
        except KeyboardInterrupt:
            console.print("[yellow]interrupted: what follows is what there was[/]")
            interrupted = True
    print_table(console, suite.results, suite.failures)
    if options.plots is not None:
        draw(console, options.plots, suite.results, found)
    if interrupted:
        raise SystemExit(INTERRUPTED)
    if suite.broken:
        raise SystemExit(f"ended early: {', '.join(suite.broken)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    minutes = sum(family.minutes for family in FAMILIES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""\
families, with the minutes that they take by default on two cores, {minutes:g} in all:
{chr(10).join(f"  {family.name:12}{family.minutes:>4g}  {family.about}" for family in FAMILIES)}
Peers are installed when they are first measured, which takes some minutes more.
""",
    )
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in a round of throughput (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of backlogs, 1 being a million jobs")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the soak goes on (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[family.name for family in FAMILIES], help="only these families"
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="NAME", choices=[*(peer.name for peer in PEERS), NONE], help="these, or 'none'"
    )
    parser.add_argument("--server", metavar="URL", help="measure on this server, in databases bench_…")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write figures and conditions there, as soon as each is known"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw plots there (needs the extra 'bench')")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="measure nothing: draw --plots of this --json")
    parser.add_argument("--list", action="store_true", help="name families and peers, and end")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.rounds < 1 or options.scale <= 0 or options.minutes <= 0:
        parser.error("--jobs, --rounds, --scale and --minutes are greater than 0")
    if options.redraw is not None and options.plots is None:
        parser.error("--redraw needs --plots")
    if options.plots is not None and not plots.available():
        parser.error(f"--plots: {plots.MISSING}")
    return options


def draw(console: Console, directory: Path, results: Sequence[Result], found: Mapping[str, str]) -> None:
    """Draw what there are figures for."""
    for file in plots.write(directory, results, found):
        console.print(f"wrote {file}", highlight=False)


def keep(options: argparse.Namespace, found: dict[str, str], suite: Suite) -> None:
    """Write down what there is, so that a run that breaks off has not been for nothing."""
    if options.json is not None:
        asked = {name: getattr(options, name) for name in ("jobs", "rounds", "scale", "minutes")}
        write_json(options.json, as_json(found, asked, suite.results, suite.failures))


def list_names(console: Console) -> None:
    """Say what `--only` and `--peers` know."""
    for title, names in (
        ("--only", {family.name: f"{family.about} ({family.minutes:g} min)" for family in FAMILIES}),
        ("--peers", {peer.name: f"{peer.title}, {peer.about}" for peer in PEERS}),
    ):
        console.print(f"[bold]{title}[/]")
        for name, about in names.items():
            console.print(f"  {name:18} {about}", highlight=False)


def open_peers(stack: ExitStack, kinds: Sequence[type[Peer]], server: Server, suite: Suite) -> list[Peer]:
    """Install and prepare peers; one that cannot be had is left out, with a line that says why."""
    found = []
    for kind in kinds:
        peer = kind()
        try:
            with suite.console.status(f"getting {peer.title}"):
                peer.install()
                stack.enter_context(peer.opened(server))
        except (UnavailableError, *TROUBLE) as error:
            suite.fail(peer.title, error)
        else:
            found.append(peer)
    return found


def say_conditions(console: Console, found: dict[str, str]) -> None:
    """Print what the figures depend on. Only now does the load tell what others do: later it is the suite's own."""
    console.print("; ".join(f"{name} {value}" for name, value in found.items()), highlight=False)
    text = warning(found)
    if text is not None:
        console.print(f"[bold red]warning:[/] {text}", highlight=False)


if __name__ == "__main__":
    main()
