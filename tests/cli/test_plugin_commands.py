"""Commands that plugins bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.running import Done, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VISITS = """
import click
from pgtasks.plugins import hookimpl

seen = []

@hookimpl
def configure(app):
    seen.append(app.schema)

@click.command(help="Count visits.")
@click.option("--of")
@click.pass_obj
def visits(app, of):
    with app.connection() as connection:
        one = connection.execute("select 1").fetchone()[0]
    click.echo(f"{app.role} {app.schema} {seen} {of} {one}")

@click.group(help="About the shop.")
def shop():
    pass

@shop.command("open")
@click.pass_obj
def open_shop(app):
    click.echo(f"{app.schema} is open")

@click.command
def crash():
    1 / 0

@click.command
@click.option("--schema", type=int)
@click.pass_obj
def own(app, schema):
    click.echo(f"{schema} {app.schema}")

@click.command
@click.argument("error", required=False)
def refuse(error):
    raise click.UsageError("Not today")

@click.command
@click.pass_obj
def wrong(app):
    with app.connection() as connection:
        connection.execute("select pg_terminate_backend(pg_backend_pid())")

@hookimpl
def register_commands():
    return [visits, shop, crash, own, refuse, wrong]
"""

BROKEN = "import there_is_no_such_module\n"


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """A directory with a plugin that has commands."""
    (tmp_path / "visits.py").write_text(VISITS)
    return tmp_path


@pytest.fixture
def call(visits: Path, database: str) -> Callable[..., Done]:
    """Run `pgtasks` there, with a database and this plugin."""

    def call(*arguments: str, plugins: str = "visits", **env: str) -> Done:
        return run(*arguments, cwd=visits, env={"PGTASKS_DATABASE_URL": database, "PGTASKS_PLUGINS": plugins, **env})

    return call


def install(directory: Path, name: str, target: str) -> None:
    """Make a distribution that offers a plugin."""
    info = directory / f"pgtasks_{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pgtasks-{name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[pgtasks]\n{name} = {target}\n")


def simple(*commands: str) -> str:
    """The code of a plugin with these commands, which do nothing."""
    made = ", ".join(f"click.Command({name!r}, callback=lambda: None)" for name in commands)
    return f"import click\nfrom pgtasks import hookimpl\n\n@hookimpl\ndef register_commands():\n    return [{made}]\n"


def test_commands_of_plugins_are_listed_below_the_others(visits: Path) -> None:
    done = run("-p", "visits", "--help", cwd=visits)
    assert (done.code, done.err) == (0, "")
    listed = done.out.partition("Commands of plugins:\n")[2].splitlines()
    assert listed == ["  crash", "  own", "  refuse", "  shop    About the shop.", "  visits  Count visits.", "  wrong"]


def test_a_plugins_command_gets_an_app_that_its_options_have_made(call: Callable[..., Done]) -> None:
    done = call("visits", "--schema", "jobs", "--of", "ada")
    assert (done.code, done.err) == (0, "")
    assert done.out == "command jobs ['jobs'] ada 1\n"


def test_a_plugins_command_has_help_of_its_own(call: Callable[..., Done]) -> None:
    done = call("visits", "--help")
    assert done.code == 0
    assert "--of TEXT" in done.out
    assert "--schema NAME" in done.out


def test_an_installed_plugins_command_is_there_without_being_asked_for(visits: Path) -> None:
    (visits / "counted.py").write_text("""
import click
from pgtasks import hookimpl

class Counting:
    @hookimpl
    def configure(self, app):
        self.schema = app.schema

    @hookimpl
    def register_commands(self):
        return [click.Command("counted", callback=lambda: click.echo(self.schema))]
""")
    install(visits, "counted", "counted:Counting")
    done = run("counted", "--schema", "jobs", cwd=visits)
    assert (done.code, done.out, done.err) == (0, "jobs\n", "")


def test_a_command_that_uses_no_database_starts_no_server(visits: Path) -> None:
    done = run("-p", "visits", "shop", "open", cwd=visits)
    assert (done.code, done.out, done.err) == (0, "graphile_worker is open\n", "")
    assert not (visits / ".pgtasks").exists()


@pytest.mark.parametrize(
    "arguments",
    [("shop", "open", "--schema", "jobs"), ("shop", "--schema", "jobs", "open")],
    ids=["the command's", "the group's"],
)
def test_options_reach_a_command_of_a_group(arguments: tuple[str, ...], call: Callable[..., Done]) -> None:
    assert call(*arguments).out == "jobs is open\n"


def test_an_option_of_the_plugin_stays_its_own(call: Callable[..., Done]) -> None:
    done = call("own", "--schema", "7")
    assert (done.out, done.err) == ("7 graphile_worker\n", "")


# Names


def test_a_misspelt_command_of_a_plugin_is_told_like_any_other(call: Callable[..., Done]) -> None:
    done = call("vistis")
    assert (done.code, done.error) == (
        2,
        "there is no command 'vistis'; did you mean 'visits'? See 'pgtasks --help'.",
    )


def test_a_misspelt_command_of_a_plugins_group_is_told(call: Callable[..., Done]) -> None:
    done = call("shop", "opne")
    assert done.code == 2
    assert "'opne'" in done.error


def test_a_plugin_named_after_its_command_is_told_where_to_stand(visits: Path) -> None:
    done = run("visits", "-p", "visits", cwd=visits)
    assert done.code == 2
    assert "a plugin is named before its command, pgtasks -p NAME visits" in done.error


def test_a_further_plugin_after_a_plugins_command_is_told_where_to_stand(call: Callable[..., Done]) -> None:
    done = call("visits", "-p", "more")
    assert done.code == 2
    assert done.error.startswith("plugins are named before a plugin's command: pgtasks -p more visits.")


def test_a_plugin_must_not_have_a_command_of_pgtasks(visits: Path) -> None:
    (visits / "greedy.py").write_text(simple("fine", "worker"))
    done = run("-p", "greedy", "fine", cwd=visits)
    assert done.code == 14
    assert done.error.startswith("plugin 'greedy' has a command 'worker', and so has pgtasks")


def test_two_plugins_must_not_have_a_command_of_one_name(visits: Path) -> None:
    (visits / "greedy.py").write_text(simple("visits"))
    done = run("-p", "greedy", "-p", "visits", "visits", cwd=visits)
    assert done.code == 14
    assert "both have a command 'visits'" in done.error
    assert "'greedy'" in done.error
    assert "-p no:" in done.error
    assert run("-p", "greedy", "-p", "visits", "-p", "no:visits", "visits", cwd=visits).code == 0


def test_what_is_no_command_is_told(visits: Path) -> None:
    (visits / "odd.py").write_text(simple().replace("[]", "[print]"))
    done = run("-p", "odd", "report", cwd=visits)
    assert done.code == 14
    assert done.error.startswith("plugin 'odd' has a command that is no click command with a name: <built-in")


# What goes wrong


def test_a_plugin_that_cannot_be_imported_is_told_where_its_command_is_missed(visits: Path) -> None:
    (visits / "broken.py").write_text(BROKEN)
    done = run("-p", "broken", "report", cwd=visits)
    assert done.code == 14
    assert done.error.startswith("plugin 'broken' cannot be loaded: ModuleNotFoundError: No module named ")
    assert f"({visits}/broken.py:1)" in done.error


def test_a_plugin_that_exits_while_it_is_imported_is_told(visits: Path) -> None:
    (visits / "broken.py").write_text("raise SystemExit(0)\n")
    done = run("-p", "broken", "report", cwd=visits)
    assert done.code == 14
    assert done.error.startswith("plugin 'broken' cannot be loaded: SystemExit: 0")


def test_help_comes_whatever_is_wrong_with_plugins(visits: Path) -> None:
    (visits / "broken.py").write_text(BROKEN)
    done = run("-p", "broken", "-p", "visits", "--help", cwd=visits)
    assert done.code == 0
    assert "Count visits." in done.out
    assert done.err.startswith("pgtasks: warning: plugin 'broken' cannot be loaded: ModuleNotFoundError: ")


def test_help_comes_whatever_is_wrong_with_settings(visits: Path) -> None:
    done = run("-p", "visits", "--help", cwd=visits, env={"PGTASKS_SHCEMA": "jobs"})
    assert done.code == 0
    assert done.err.startswith("pgtasks: warning: commands of plugins are not listed: ")
    assert "PGTASKS_SHCEMA" in done.err


def test_a_command_does_not_run_beside_a_broken_plugin(visits: Path) -> None:
    (visits / "broken.py").write_text(BROKEN)
    arguments = ("-p", "broken", "-p", "visits", "shop", "open")
    assert run(*arguments, cwd=visits).code == 14
    done = run(*arguments, cwd=visits, env={"PGTASKS_BROKEN_PLUGINS": "warn"})
    assert (done.code, done.out) == (0, "graphile_worker is open\n")
    assert done.err.count("pgtasks: warning: plugin 'broken' cannot be loaded: ") == 1


def test_a_plugin_that_cannot_say_its_commands_is_told(visits: Path) -> None:
    (visits / "broken.py").write_text(simple().replace("[]", "1 / 0"))
    done = run("-p", "broken", "report", cwd=visits)
    assert done.code == 14
    assert done.error.startswith(
        "plugin 'broken' cannot say which commands it has: ZeroDivisionError: division by zero"
    )


def test_a_bug_of_a_plugins_command_is_not_taken_for_one_of_pgtasks(call: Callable[..., Done]) -> None:
    done = call("crash")
    assert done.code == 1
    assert "ZeroDivisionError: division by zero\n" in done.err
    assert done.err.splitlines()[-1] == (
        "pgtasks: error: this is a bug in plugin 'visits'; please report it, with the lines above, to whom it is from"
    )


def test_what_a_plugins_command_refuses_is_told_in_one_line(call: Callable[..., Done]) -> None:
    done = call("refuse")
    assert (done.code, done.error) == (2, "not today. See 'pgtasks refuse --help'.")


def test_a_lost_connection_of_a_plugins_command_is_told_in_one_line(call: Callable[..., Done]) -> None:
    done = call("wrong")
    assert done.code == 3
    assert "terminating connection" in done.error


def test_an_error_of_configure_names_the_plugin(visits: Path) -> None:
    (visits / "faulty.py").write_text("from pgtasks import hookimpl\n\n@hookimpl\ndef configure(app):\n    1 / 0\n")
    done = run("-p", "faulty", "queues", cwd=visits)
    assert done.code == 14
    assert done.error == (
        f"plugin 'faulty' has failed in its configure(): ZeroDivisionError: division by zero ({visits}/faulty.py:5)"
    )


# When plugins are imported


@pytest.mark.parametrize("arguments", [("--version",), ("worker", "--help"), ("jobs", "list", "--help"), ("jobs", "x")])
def test_what_needs_no_plugin_imports_none(arguments: tuple[str, ...], visits: Path) -> None:
    (visits / "noisy.py").write_text("print('imported')\n")
    assert "imported" not in run("-p", "noisy", *arguments, cwd=visits).out


def test_a_shell_completes_commands_of_plugins(visits: Path) -> None:
    (visits / "broken.py").write_text(BROKEN)
    env = {"PGTASKS_PLUGINS": "visits,broken", "_PGTASKS_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    done = run(cwd=visits, env={**env, "COMP_WORDS": "pgtasks vi"})
    assert (done.code, done.out, done.err) == (0, "plain,visits\n", "")
    done = run(cwd=visits, env={**env, "COMP_WORDS": "pgtasks shop ", "COMP_CWORD": "2"})
    assert (done.code, done.out, done.err) == (0, "plain,open\n", "")
    done = run(cwd=visits, env={**env, "COMP_WORDS": "pgtasks nothing ", "COMP_CWORD": "2"})
    assert done.err == ""
