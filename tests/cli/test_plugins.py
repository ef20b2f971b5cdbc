"""`-p`, `pgtasks plugins` and `pgtasks config`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pgtasks import App
from pgtasks.hookspecs import HOOKS
from pgtasks.registry import Registry
from pgtasks.settings import Settings
from tests.cli.running import run
from tests.cli.test_plugin_commands import BROKEN, install

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
from pydantic import BaseModel, SecretStr
from pgtasks.plugins import hookimpl

class ShopSettings(BaseModel):
    days: int = 7
    key: SecretStr = SecretStr("")

@hookimpl
def configure(app):
    app.plugin_settings("shop", ShopSettings)
"""
SILENT = "from pgtasks import hookimpl\n\n@hookimpl\ndef configure(app):\n    pass\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with plugins."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "mail.py").write_text(SILENT)
    (tmp_path / "broken.py").write_text(BROKEN)
    return tmp_path


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# -p


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "shop", "-p", "mail", "plugins"),
        ("plugins", "--plugin=shop", "-pmail"),
        ("-p", "shop", "plugins", "-pmail"),
    ],
    ids=["before the command", "after it", "both"],
)
def test_plugins_are_named_before_a_command_and_after_it(arguments: tuple[str, ...], shop: Path) -> None:
    done = run(*arguments, "--json", cwd=shop)
    assert [plugin["name"] for plugin in objects(done.out)] == ["shop", "mail"]


def test_plugins_of_the_command_line_and_of_the_environment_are_added_up(shop: Path) -> None:
    done = run("plugins", "-p", "shop", "--json", cwd=shop, env={"PGTASKS_PLUGINS": "mail"})
    assert {plugin["name"] for plugin in objects(done.out)} == {"shop", "mail"}


def test_a_plugin_can_be_left_out(shop: Path) -> None:
    install(shop, "shop", "shop")
    assert len(objects(run("plugins", "--json", cwd=shop).out)) == 1
    assert objects(run("plugins", "-p", "no:shop", "--json", cwd=shop).out) == []


def test_a_name_that_is_none_is_told_with_its_option(shop: Path) -> None:
    done = run("plugins", "-p", "", cwd=shop)
    assert (done.code, done.error) == (
        2,
        "command line option --plugin: must name plugins, and '' is no name",
    )


def test_a_worker_and_its_processes_have_the_plugins_of_the_command_line(shop: Path, database: str) -> None:
    (shop / "shop_tasks.py").write_text("""
from pgtasks import App, Registry

app = App(registry=Registry(), plugins=["shop"])

@app.task
def tell(payload):
    print("plugins:", *app.settings.plugins)
""")
    env = {"PGTASKS_DATABASE_URL": database}
    assert run("add", "tell", cwd=shop, env=env).code == 0
    done = run("-p", "mail", "worker", "shop_tasks:app", "--once", "-p", "no:other", cwd=shop, env=env)
    assert done.code == 0, done.err
    assert "plugins: shop mail no:other\n" in done.out


def test_plugins_of_the_command_line_are_added_to_those_of_the_application() -> None:
    app = App(registry=Registry(), plugins=["shop"])
    app.override({"plugins": ("mail",)})
    assert app.settings.plugins == ("shop", "mail")


# pgtasks plugins


def test_plugins_are_listed_with_what_is_known_of_them(shop: Path) -> None:
    install(shop, "shop", "shop")
    done = run("plugins", "-p", "mail", "--json", cwd=shop)
    assert (done.code, done.err) == (0, "")
    known = {"hooks": ["configure"], "problem": None}
    assert objects(done.out) == [
        {"name": "shop", "version": "1.2", "distribution": "pgtasks-shop", "origin": "entry point", **known},
        {"name": "mail", "version": None, "distribution": None, "origin": "settings", **known},
    ]


def test_a_table_of_plugins_has_a_row_for_each(shop: Path) -> None:
    done = run("plugins", "-p", "mail", cwd=shop)
    assert [line.split() for line in done.out.splitlines()] == [
        ["plugin", "version", "distribution", "loaded", "by", "hooks", "problem"],
        ["mail", "settings", "configure"],
    ]


def test_a_broken_plugin_is_listed_with_its_problem(shop: Path) -> None:
    done = run("plugins", "-p", "broken", "-p", "shop", "--json", cwd=shop)
    assert (done.code, done.error) == (14, "1 plugin cannot be loaded")
    broken, working = objects(done.out)
    assert str(broken["problem"]).startswith("plugin 'broken' cannot be loaded: ModuleNotFoundError: ")
    assert working["problem"] is None


def test_a_required_plugin_that_is_missing_is_told_below_the_others(shop: Path) -> None:
    done = run("plugins", "-p", "mail", cwd=shop, env={"PGTASKS_REQUIRED_PLUGINS": "prometheus"})
    assert done.code == 14
    assert "mail" in done.out
    assert done.error.startswith("required plugin 'prometheus' not loaded")


def test_no_plugin_is_worth_a_word(tmp_path: Path) -> None:
    done = run("plugins", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "pgtasks: there are no plugins\n")


# pgtasks plugins hooks


def test_all_hooks_are_listed_with_their_contract(tmp_path: Path) -> None:
    done = run("plugins", "hooks", "--json", cwd=tmp_path)
    listed = {str(hook["name"]): hook for hook in objects(done.out)}
    assert list(listed) == list(HOOKS)
    assert all(hook["documentation"] for hook in listed.values())
    documentation = listed["worker_exited"].pop("documentation")
    assert str(documentation).startswith("Told of the end of each worker process; ")
    assert listed["worker_exited"] == {
        "name": "worker_exited",
        "kind": "observe",
        "processes": ["supervisor"],
        "async": True,
        "isolated": True,
        "signature": "worker_exited(process: ProcessInfo, code: int) -> None",
    }


def test_a_table_of_hooks_has_a_row_for_each(tmp_path: Path) -> None:
    done = run("plugins", "hooks", cwd=tmp_path)
    assert [line.split()[0] for line in done.out.splitlines()] == ["hook", *HOOKS]


def test_one_hook_is_shown_with_its_documentation(tmp_path: Path) -> None:
    done = run("plugins", "hooks", "configure", cwd=tmp_path)
    assert "configure(app: Application) -> bool | None\n" in done.out
    assert "    @hookimpl\n    def configure(self, app):\n" in done.out


def test_a_misspelt_hook_is_told(tmp_path: Path) -> None:
    done = run("plugins", "hooks", "job_fialed", cwd=tmp_path)
    assert (done.code, done.error) == (
        2,
        "there is no hook 'job_fialed'; did you mean 'job_failed'? See 'pgtasks plugins hooks --help'.",
    )


# pgtasks config


def test_every_setting_is_shown_with_its_value_and_where_it_comes_from(tmp_path: Path) -> None:
    env = {"PGTASKS_DATABASE_URL": "postgresql://ada:secret@db/jobs"}
    (tmp_path / "pgtasks.toml").write_text("processes = 3\n")
    done = run("config", "--schema", "jobs", "--json", cwd=tmp_path, env=env)
    assert (done.code, done.err) == (0, "")
    shown = {str(line["name"]): line for line in objects(done.out)}
    assert list(shown) == list(Settings.names())
    assert {(line["name"], line["value"], line["origin"]) for line in shown.values()} >= {
        ("schema", "jobs", "command line option --schema"),
        ("processes", "3", f"'processes' in {tmp_path}/pgtasks.toml"),
        ("poll_interval", "2", "default"),
    }
    assert "db" in str(shown["database_url"]["value"])
    assert "secret" not in done.out


def test_a_plugins_settings_are_shown_without_secrets(shop: Path) -> None:
    env = {"PGTASKS_PLUGIN_SHOP__DAYS": "9", "PGTASKS_PLUGIN_SHOP__KEY": "hush"}
    done = run("config", "-p", "shop", "--json", cwd=shop, env=env)
    assert (done.code, done.err) == (0, "")
    origin = "environment variable PGTASKS_PLUGIN_SHOP__"
    assert [line for line in objects(done.out) if line["plugin"] is not None] == [
        {"name": "days", "value": "9", "origin": f"{origin}DAYS", "plugin": "shop"},
        {"name": "key", "value": "********", "origin": f"{origin}KEY", "plugin": "shop"},
    ]
    assert "\nplugin.shop.key " in run("config", "-p", "shop", cwd=shop, env=env).out


def test_settings_for_a_plugin_that_is_not_loaded_are_named(shop: Path) -> None:
    done = run("config", "-p", "shop", cwd=shop, env={"PGTASKS_PLUGIN_SHPO__KEY": "hush"})
    assert done.code == 0
    assert "plugin.shpo.key " in done.out
    assert "hush" not in done.out
    assert done.err == (
        "pgtasks: warning: nobody reads environment variable PGTASKS_PLUGIN_SHPO__KEY: plugin 'shpo' is not loaded; "
        "did you mean 'shop'?\n"
    )


def test_settings_for_a_plugin_that_asks_for_none_are_named(shop: Path) -> None:
    (shop / "pgtasks.toml").write_text("plugins = ['mail']\n[plugin.mail]\nkey = 'x'\n")
    done = run("config", cwd=shop)
    assert done.code == 0
    assert "plugin 'mail' asks for no settings" in done.err


def test_settings_are_shown_beside_a_plugin_that_finds_fault_with_its_own(shop: Path) -> None:
    done = run("config", "-p", "shop", cwd=shop, env={"PGTASKS_PLUGIN_SHOP__DAYS": "many"})
    assert done.code == 2
    assert "\npoll_interval " in done.out
    assert done.error == "environment variable PGTASKS_PLUGIN_SHOP__DAYS: must be a whole number, not 'many'"


def test_settings_are_shown_beside_a_broken_plugin(shop: Path) -> None:
    done = run("config", "-p", "broken", cwd=shop)
    assert done.code == 14
    assert "\npoll_interval " in done.out


def test_no_server_is_started_to_show_settings(tmp_path: Path) -> None:
    assert run("config", cwd=tmp_path).code == 0
    assert not (tmp_path / ".pgtasks").exists()
