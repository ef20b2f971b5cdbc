"""What `pgtasks plugins new` makes can be installed, and is then loaded wherever pgtasks is used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import App, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Done
    from tests.plugins.conftest import Installation
    from tests.servers import Server

pytestmark = pytest.mark.timeout(600)  # the first of these tests installs what all of them use


@pytest.fixture
def env(database: str) -> dict[str, str]:
    """The environment of a worker, for which there is a job that fails."""
    app = App(registry=Registry(), database_url=database, autoload_plugins=False)
    app.add_job("fail", max_attempts=1)
    app.close()
    return {"PGTASKS_DATABASE_URL": database, "PGTASKS_PROCESSES": "1"}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a module of tasks."""
    (tmp_path / "jobs.py").write_text("from pgtasks import task\n\n@task\ndef fail():\n    raise ValueError('no')\n")
    return tmp_path


def _loggers(done: Done) -> set[str]:
    """Which plugins have logged that a job is given up."""
    return {record["logger"] for record in _records(done) if "is given up" in record["event"]}


def _records(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]


def test_installed_plugins_are_listed_by_name_with_their_distribution(
    installation: Installation, tmp_path: Path
) -> None:
    listed = installation.plugins(cwd=tmp_path)
    assert [(one["name"], one["distribution"], one["version"]) for one in listed] == [
        ("alpha", "pgtasks-alpha", "0.1.0"),
        ("beta", "pgtasks-beta", "0.1.0"),
    ]
    assert listed[0]["origin"] == "entry point"
    assert listed[0]["hooks"] == ["configure", "job_failed"]


def test_an_installed_pgtasks_makes_packages(installation: Installation, tmp_path: Path) -> None:
    done = installation.run("pgtasks", "plugins", "new", "gamma", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "pgtasks-gamma" / "pgtasks_gamma" / "py.typed").exists()


def test_the_tests_of_a_made_package_pass(installation: Installation, server: Server) -> None:
    done = installation.run(
        *("python", "-W", "error", "-m", "pytest", "-p", "no:cacheprovider"),
        cwd=installation.directory / "pgtasks-alpha",
        env={"PGTASKS_TEST_DATABASE_URL": server.conninfo()},
    )
    assert done.code == 0, done.out
    assert "4 passed" in done.out
    with psycopg.connect(server.conninfo()) as connection:
        left = connection.execute("select datname from pg_database where datname ~ '^pgtasks_test_'").fetchall()
    assert left == []


def test_installed_plugins_take_effect_in_a_worker(installation: Installation, env: dict[str, str], work: Path) -> None:
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=env)
    assert done.code == 0, done.err
    assert _loggers(done) == {"pgtasks_alpha", "pgtasks_beta"}


def test_installed_plugins_have_their_settings(installation: Installation, env: dict[str, str], work: Path) -> None:
    (work / "pgtasks.toml").write_text('[plugin.alpha]\nignore = ["fail"]\n')
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=env)
    assert _loggers(done) == {"pgtasks_beta"}
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env={**env, "PGTASKS_PLUGIN_BETA__X": "1"})
    assert done.code == 2
    assert "environment variable PGTASKS_PLUGIN_BETA__X is not a setting of plugin 'beta'" in done.err


def test_a_plugin_can_be_left_out(installation: Installation, env: dict[str, str], work: Path) -> None:
    assert [one["name"] for one in installation.plugins("-p", "no:alpha", cwd=work)] == ["beta"]
    done = installation.run("pgtasks", "worker", "jobs", "--once", "-p", "no:alpha", cwd=work, env=env)
    assert _loggers(done) == {"pgtasks_beta"}


def test_plugins_are_not_loaded_by_themselves_where_that_is_turned_off(
    installation: Installation, env: dict[str, str], work: Path
) -> None:
    off = {**env, "PGTASKS_AUTOLOAD_PLUGINS": "false"}
    assert installation.plugins(cwd=work, env=off) == []
    assert [one["name"] for one in installation.plugins("-p", "beta", cwd=work, env=off)] == ["beta"]
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=off)
    assert done.code == 0, done.err
    assert _loggers(done) == set()


def test_a_plugin_may_be_a_module_of_the_current_directory(
    installation: Installation, env: dict[str, str], work: Path
) -> None:
    lines = ("from pgtasks.plugins import hookimpl", "@hookimpl", "def configure(app):", "    print(app.role.value)")
    (work / "mine.py").write_text("\n".join(lines))
    done = installation.run("pgtasks", "worker", "jobs", "--once", "-p", "mine", cwd=work, env=env)
    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["supervisor", "worker"]


def test_without_a_plugin_that_is_required_nothing_starts(
    installation: Installation, env: dict[str, str], work: Path
) -> None:
    required = {**env, "PGTASKS_REQUIRED_PLUGINS": "alpha,gamma"}
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=required)
    assert done.code == 14
    assert "required plugin 'gamma' not loaded: install pgtasks-gamma" in done.err
    here = {**env, "PGTASKS_REQUIRED_PLUGINS": "alpha,beta"}
    assert installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=here).code == 0


def test_a_worker_does_not_start_with_a_plugin_that_cannot_be_imported(
    installation: Installation, env: dict[str, str], work: Path
) -> None:
    broken = {**env, "PYTHONPATH": str(installation.broken)}
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=broken)
    assert done.code == 14
    assert "plugin 'broken' (distribution pgtasks-broken 0.1.0) cannot be loaded: ModuleNotFoundError: " in done.err
    assert "there_is_no_such_module" in done.err
    assert "-p no:broken" in done.err


def test_a_worker_goes_on_without_it_where_a_warning_is_enough(
    installation: Installation, env: dict[str, str], work: Path
) -> None:
    broken = {**env, "PYTHONPATH": str(installation.broken), "PGTASKS_BROKEN_PLUGINS": "warn"}
    done = installation.run("pgtasks", "worker", "jobs", "--once", cwd=work, env=broken)
    assert done.code == 0, done.err
    warning = next(record for record in _records(done) if record["event"] == "plugin_broken")
    assert warning["plugin"] == "broken"
    assert "distribution pgtasks-broken 0.1.0" in warning["error"]
    assert _loggers(done) == {"pgtasks_alpha", "pgtasks_beta"}
