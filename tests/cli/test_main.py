from __future__ import annotations

import importlib
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import pgtasks
from pgtasks.cli import BROKEN_PIPE, BUG, COMMANDS, INTERRUPTED, UNWRITTEN, main
from pgtasks.cli.jobs import COMMANDS as JOB_COMMANDS
from pgtasks.cli.lazy import USAGE, LazyCommand
from pgtasks.errors import JobFailedError, PgtasksError
from tests.cli.running import PGTASKS, clean_environment, run, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_CODES_PAGE = Path(__file__).parents[2] / "docs/reference/exit-codes.md"


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, f"pgtasks {pgtasks.__version__}\n", "")


def test_help_lists_every_command(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.code == 0
    listed = " ".join(done.out.partition("Commands:")[2].split())
    assert listed == " ".join(f"{name} {command.help}" for name, command in COMMANDS.items())


@pytest.mark.parametrize("commands", [COMMANDS, JOB_COMMANDS], ids=["pgtasks", "pgtasks jobs"])
def test_the_list_of_commands_says_what_the_command_itself_says(commands: dict[str, LazyCommand]) -> None:
    for name, listed in commands.items():
        module, _, attribute = listed.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        assert command.name == name
        assert (command.help or "").split("\n")[0] == listed.help


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_no_command(arguments: list[str], tmp_path: Path) -> None:
    targets = {command.target.partition(":")[0] for command in COMMANDS.values()}
    script = """
import atexit, sys
atexit.register(lambda: print(*(m for m in sys.modules if m.startswith("pgtasks.cli.")), file=sys.stderr))
"""
    done = run_script(script, *arguments, cwd=tmp_path)
    imported = set(done.err.split())
    assert "pgtasks.cli.lazy" in imported
    assert not imported & targets


def test_without_a_command_the_help_goes_to_stderr(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: pgtasks ")


def test_the_installed_script_is_the_same_command(tmp_path: Path) -> None:
    script = Path(PGTASKS[0]).with_name("pgtasks")
    if not script.exists():
        pytest.skip("pgtasks is not installed beside this Python")
    assert run("--version", cwd=tmp_path, command=(str(script),)).code == 0


# Usage errors


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["migrat"], "there is no command 'migrat'; did you mean 'migrate'? See 'pgtasks --help'."),
        (["xyz"], "there is no command 'xyz'. See 'pgtasks --help'."),
        (["--versoin"], "there is no option '--versoin'; did you mean '--version'? See 'pgtasks --help'."),
        (
            ["migrate", "--chek"],
            "there is no option '--chek'; did you mean '--check'? See 'pgtasks migrate --help'.",
        ),
        (["migrate", "now"], "got unexpected extra argument (now). See 'pgtasks migrate --help'."),
        (["migrate", "--schema"], "option '--schema' requires an argument"),
    ],
)
def test_a_command_line_that_cannot_be_understood_is_told_in_one_line(
    arguments: list[str], error: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.code, done.out, done.error) == (2, "", error)


# Settings


def test_an_unknown_variable_ends_a_command(tmp_path: Path) -> None:
    done = run("migrate", "--sql", cwd=tmp_path, env={"PGTASKS_SHCEMA": "jobs"})
    assert (done.code, done.out) == (2, "")
    assert done.error == "environment variable PGTASKS_SHCEMA is not a setting; did you mean 'PGTASKS_SCHEMA'?"


def test_malformed_toml_ends_a_command(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pgtasks\n")
    done = run("migrate", "--sql", cwd=tmp_path)
    assert done.code == 2
    assert done.error.startswith(f"{tmp_path}/pyproject.toml, line 1: not valid TOML: ")


def test_an_option_that_cannot_be_used_is_named_as_it_was_written(tmp_path: Path) -> None:
    done = run("migrate", "--sql", "--schema", "pg_jobs", cwd=tmp_path, env={"PGTASKS_SCHEMA": "jobs"})
    assert done.code == 2
    assert done.error.startswith("command line option --schema: must not begin with 'pg_'")


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    done = run("migrate", "--sql", "--schema", "given", cwd=tmp_path, env={"PGTASKS_SCHEMA": "surroundings"})
    assert "given" in done.out
    assert "surroundings" not in done.out


# Other endings


def test_a_bug_shows_its_traceback_and_how_to_report_it(tmp_path: Path) -> None:
    script = "import pgtasks.cli.migrate as module\nmodule.settings_from = lambda ctx: 1 / 0"
    done = run_script(script, "migrate", cwd=tmp_path)
    assert done.code == BUG
    assert "ZeroDivisionError: division by zero\n" in done.err
    assert (
        f"please report it with the lines above, what you ran and these versions: pgtasks {pgtasks.__version__}"
        in (done.err.splitlines()[-1])
    )


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = subprocess.Popen(
        [*PGTASKS, "migrate", "--sql"], cwd=tmp_path, env=clean_environment(), stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert command.communicate(timeout=60)[1] == b""
    assert command.returncode == BROKEN_PIPE


def test_an_error_of_another_file_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    script = """
import pgtasks.cli.migrate as module
module.settings_from = lambda ctx: open("/dev/full", "wb", buffering=0).write(b"x")
"""
    done = run_script(script, "migrate", cwd=tmp_path)
    assert done.code == BUG
    assert "OSError: [Errno 28]" in done.err


def test_a_command_without_stdout_does_its_work(tmp_path: Path) -> None:
    done = run("-c", 'exec "$@" >&-', "sh", *PGTASKS, "--version", cwd=tmp_path, command=("/bin/sh",))
    assert (done.code, done.err) == (0, "")


def test_an_error_is_red_on_a_terminal(tmp_path: Path) -> None:
    assert error_on_a_terminal(tmp_path).startswith(b"\x1b[31m\x1b[1mpgtasks: error:\x1b[0m there is no")


def test_an_error_has_no_colour_where_nobody_wants_it(tmp_path: Path) -> None:
    assert error_on_a_terminal(tmp_path, NO_COLOR="1").startswith(b"pgtasks: error: there is no")


def error_on_a_terminal(cwd: Path, **env: str) -> bytes:
    kept = {name: value for name, value in clean_environment().items() if name != "NO_COLOR"}
    ours, theirs = pty.openpty()
    subprocess.run([*PGTASKS, "migrat"], cwd=cwd, env={**kept, **env}, stderr=theirs, check=False, timeout=60)
    written = os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    return written


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_ends_a_command_quietly(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_ctx: object) -> None:
        raise error

    monkeypatch.setattr("pgtasks.cli.migrate.settings_from", interrupt)
    assert main(["migrate"]) == INTERRUPTED
    assert capsys.readouterr() == ("", "")


def all_errors(base: type[PgtasksError] = PgtasksError) -> Iterator[type[PgtasksError]]:
    if base.__module__ == "pgtasks.errors":
        yield base
    for kind in base.__subclasses__():
        yield from all_errors(kind)


@pytest.mark.parametrize("kind", list(all_errors()))
def test_every_error_ends_a_command_with_its_own_code(
    kind: type[PgtasksError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = JobFailedError(7, "what went wrong") if kind is JobFailedError else kind("what went wrong")

    def fail(_ctx: object) -> None:
        raise error

    monkeypatch.setattr("pgtasks.cli.migrate.settings_from", fail)
    assert main(["migrate"]) == kind.exit_code
    assert capsys.readouterr() == ("", f"pgtasks: error: {error}\n")


# The documentation


def documented_codes() -> set[tuple[int, str]]:
    rows = re.findall(r"^\| (\d+) \|(.*?)\|", EXIT_CODES_PAGE.read_text(), re.MULTILINE)
    return {(int(code), name.strip(" `")) for code, name in rows}


def test_the_documented_exit_codes_are_those_that_exist() -> None:
    assert documented_codes() == {
        (0, ""),
        (BUG, "any other"),
        (USAGE, "click.UsageError"),
        (UNWRITTEN, "OSError"),
        (INTERRUPTED, "KeyboardInterrupt"),
        (BROKEN_PIPE, "BrokenPipeError"),
        *((kind.exit_code, kind.__name__) for kind in all_errors()),
    }
