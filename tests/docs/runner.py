"""Does what a page shows, in a process and a directory of its own: `python runner.py < page.json`.

The page is an object with its `name` and its `steps` (`tests.docs.pages.Step`). The first step that does not do what
the page says ends the process with code 1 and a report. In what a page shows as output, `…` stands for any text, and a
line that is nothing else for any number of lines; a command that is shown to fail (`pgtasks: error: …`, `ERROR: …`) has
to. A line `^C` in a command's output presses Ctrl-C as soon as what stands above it has been seen.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_LONGEST = 60.0
"""Seconds that one command may take."""


class WrongOutputError(Exception):
    """A block does something else than its page says."""


def run_page(page: dict[str, Any]) -> None:
    """Run the steps of `page`."""
    namespace: dict[str, Any] = {"__name__": "__page__"}
    for step in page["steps"]:
        try:
            _run(step, page["name"], namespace)
        except BaseException as error:
            print(f"{page['name']}:{step['line']}: this block does not do what the page says", file=sys.stderr)
            if not isinstance(error, WrongOutputError):
                raise
            print(error, file=sys.stderr)
            raise SystemExit(1) from None


def _run(step: dict[str, Any], page: str, namespace: dict[str, Any]) -> None:
    text, output = step["text"], step["output"]
    match step["kind"]:
        case "file":
            _write(Path(step["name"]), text)
        case "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                # The blank lines make a traceback show the page's line.
                exec(compile("\n" * (step["line"] - 1) + text, page, "exec"), namespace)
            compare(output, said.getvalue())
        case "sql":
            compare(_squeezed(output), _squeezed(_query(text)))
        case "console":
            for command, expected in _commands(text):
                _run_command(command, expected)
        case "bash":
            _run_command(text, output or "")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    # A page may show a module a second time, with more in it.
    sys.modules.pop(".".join(path.with_suffix("").parts), None)
    importlib.invalidate_caches()


def _query(text: str) -> str:
    """Run SQL and return what the last statement gives, about as psql shows it."""
    # Not before the page's own settings are in place.
    import psycopg

    from pgtasks import current_app

    with psycopg.connect(current_app().database.conninfo, autocommit=True) as connection:
        try:
            cursor = connection.execute(text.encode())
        except psycopg.Error as error:
            return f"ERROR:  {error.diag.message_primary}\n"
        while cursor.nextset():
            pass
        result = cursor.pgresult
        if result is None or cursor.description is None:
            return ""
        rows = [" | ".join(column.name for column in cursor.description), "-"]
        rows += [
            " | ".join((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
            for row in range(result.ntuples)
        ]
        rows.append(f"({result.ntuples} row{'' if result.ntuples == 1 else 's'})")
        return "\n".join(rows) + "\n"


def _squeezed(table: str | None) -> str | None:
    """Return a table without its alignment."""
    if table is None:
        return None
    lines = [re.sub(r"[-+]{2,}|^-$", "-", re.sub(" +", " ", line)).strip() for line in table.splitlines()]
    return "\n".join(lines) + "\n"


def _commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with the output that is shown below it."""
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        command = lines.pop(0)
        while command.endswith("\\\n"):
            command += lines.pop(0)
        found.append((command, "".join(lines)))
    if not found:
        raise WrongOutputError("no line begins with '$ '")
    return found


def _run_command(command: str, expected: str) -> None:
    interrupted = re.search(r"^\^C$", expected, flags=re.MULTILINE) is not None
    parts = re.split(r"^\^C\n", expected, flags=re.MULTILINE)
    process = subprocess.Popen(
        ["/bin/sh", "-e", "-c", f"exec {command}" if interrupted else command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    guard = threading.Timer(_LONGEST, os.killpg, (process.pid, signal.SIGKILL))
    guard.start()
    try:
        seen = ""
        for number in range(1, len(parts)):
            so_far = _pattern("".join(parts[:number]))
            while not so_far.match(seen):
                line = process.stdout.readline()
                if not line:
                    raise WrongOutputError(_difference(expected, seen))
                seen += line
            os.killpg(process.pid, signal.SIGINT)
        seen += process.stdout.read()
        code = process.wait()
    finally:
        guard.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    if expected:
        compare("".join(parts), seen)
    if (code != 0) is not bool(re.search(r"^pgtasks: error:", expected, flags=re.MULTILINE)):
        raise WrongOutputError(f"$ {command.rstrip()}\n{seen}\nended with exit code {code}")


def compare(expected: str | None, seen: str | None) -> None:
    """Raise `WrongOutputError` unless `seen` is what the page shows, if it shows anything."""
    if expected is None or seen is None:
        if seen is not None and seen.startswith("ERROR:"):
            raise WrongOutputError(seen)
        return
    if seen and not seen.endswith("\n"):
        seen += "\n"
    if not _pattern(expected).fullmatch(seen):
        raise WrongOutputError(_difference(expected, seen))


def _pattern(expected: str) -> re.Pattern[str]:
    parts = []
    for line in expected.splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.rstrip().split("…")) + "[ \t]*\n")
    return re.compile("".join(parts))


def _difference(expected: str, seen: str) -> str:
    return f"the page shows:\n{expected}\nbut it is:\n{seen}"


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    run_page(json.load(sys.stdin))
