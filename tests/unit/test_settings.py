from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgtasks.errors import SettingsError
from pgtasks.settings import Settings, environment_name, load_settings
from pgtasks.settings.cpus import usable_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgtasks.settings import ExplicitSource

SETTINGS_PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("PG", "DATABASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problem(explicit: Mapping[str, object] | None = None, source: ExplicitSource = "command line") -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(explicit, source=source)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def origin_of(settings: Settings, name: str) -> str:
    return next(line.origin for line in settings.describe() if line.name == name)


# Where values come from


def test_without_any_source_there_is_no_database() -> None:
    assert load_settings().conninfo is None


def test_explicit_values_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "3")
    assert load_settings({"concurrency": 4}).concurrency == 4


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("concurrency = 5\nprocesses = 6")
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "3")
    settings = load_settings()
    assert (settings.concurrency, settings.processes) == (3, 6)


def test_an_explicit_none_is_a_value_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_SHUTDOWN_TIMEOUT", "3")
    assert load_settings({"shutdown_timeout": None}).shutdown_timeout is None


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "")
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PGHOST", "")
    settings = load_settings()
    assert (settings.concurrency, settings.conninfo) == (10, None)


def test_the_database_is_ours_then_everybodys_then_that_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "shop")
    assert load_settings().conninfo == ""
    monkeypatch.setenv("DATABASE_URL", "postgresql://theirs/x")
    assert load_settings().conninfo == "postgresql://theirs/x"
    monkeypatch.setenv("PGTASKS_DATABASE_URL", "postgresql://ours/x")
    assert load_settings().conninfo == "postgresql://ours/x"


def test_a_password_for_libpq_alone_names_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert load_settings().conninfo is None


@pytest.mark.parametrize("text", ["a.b,c:app", " a.b , c:app ,", '["a.b", "c:app"]'])
def test_a_list_in_the_environment_has_commas_or_is_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PGTASKS_MODULES", text)
    assert load_settings().modules == ("a.b", "c:app")


def test_the_nearest_file_upwards_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = tmp_path / "shop" / "src"
    inner.mkdir(parents=True)
    (tmp_path / "pgtasks.toml").write_text("concurrency = 1")
    (tmp_path / "shop/pyproject.toml").write_text("[tool.pgtasks]\nconcurrency = 2")
    monkeypatch.chdir(inner)
    assert load_settings().concurrency == 2


def test_a_project_file_without_our_table_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pgtasks]\nconcurrency = 2")
    (tmp_path / "shop/pyproject.toml").write_text("[project]\nname = 'shop'")
    monkeypatch.chdir(tmp_path / "shop")
    assert load_settings().concurrency == 2


def test_our_own_file_is_read_beside_a_project_file_without_our_table(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("concurrency = 1")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'")
    assert load_settings().concurrency == 1


def test_settings_in_both_files_of_a_directory_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("concurrency = 1")
    (tmp_path / "pyproject.toml").write_text("[tool.pgtasks]\nprocesses = 2")
    assert problem() == (
        f"there are settings in both {tmp_path}/pgtasks.toml and [tool.pgtasks] in {tmp_path}/pyproject.toml; "
        "keep one of them"
    )


def test_tables_of_plugins_in_the_file_and_their_variables_are_theirs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGTASKS_PLUGIN_RATE_LIMIT__RATE", "5")
    (tmp_path / "pyproject.toml").write_text("[tool.pgtasks.plugin.rate-limit]\nrate = 4\nburst = 2")
    settings = load_settings({"plugin": {"sentry": {"dsn": "x"}}})
    for read in (settings, Settings.from_json(settings.to_json())):
        assert {key: value for key, (value, _) in read.of_plugin("rate-limit").items()} == {"rate": "5", "burst": 2}
        assert {key: value for key, (value, _) in read.of_plugin("sentry").items()} == {"dsn": "x"}
        assert read.of_plugin("rate-limit")["rate"][1] == "environment variable PGTASKS_PLUGIN_RATE_LIMIT__RATE"


def test_a_variable_of_a_plugin_without_its_two_underscores_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_PLUGIN_LIMITER_RATE", "5")
    with pytest.raises(SettingsError, match=r"PGTASKS_PLUGIN_LIMITER_RATE is not a setting: .* two underscores"):
        load_settings()


def test_plugins_of_all_sources_are_added_up_in_the_order_of_loading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pgtasks.toml").write_text("plugins = ['of_file']")
    monkeypatch.setenv("PGTASKS_PLUGINS", "of_environment,no:other")
    settings = load_settings({"plugins": ["of_option"]}, source="command line")
    assert settings.plugins == ("of_file", "of_environment", "no:other", "of_option")
    assert Settings.from_json(settings.to_json()).plugins == settings.plugins


def test_the_variables_of_a_kubernetes_service_called_pgtasks_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_80_TCP",
        "WEB_PORT_80_TCP_ADDR",
        "HEALTH_PORT",
    ):
        monkeypatch.setenv(f"PGTASKS_{name}", "tcp://10.0.0.1:80")
    assert load_settings().concurrency == 10


def test_a_relative_directory_in_the_file_starts_at_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("embedded_dir = 'data'")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert load_settings().embedded_dir == tmp_path / "data"


def test_a_relative_directory_elsewhere_starts_at_the_current_one(tmp_path: Path) -> None:
    assert load_settings({"embedded_dir": "data"}).embedded_dir == tmp_path / "data"


# Messages


def test_an_unknown_variable_is_an_error_that_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURENCY", "3")
    assert problem() == (
        "environment variable PGTASKS_CONCURENCY is not a setting; did you mean 'PGTASKS_CONCURRENCY'?"
    )


def test_an_unknown_key_in_a_project_file_is_an_error_that_names_file_and_nearest(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pgtasks]\npoll-interval = 3")
    assert problem() == (
        f"'poll-interval' in [tool.pgtasks] in {tmp_path}/pyproject.toml is not a setting; "
        "did you mean 'poll_interval'?"
    )


def test_an_unknown_argument_is_an_error_that_names_the_nearest() -> None:
    assert problem({"concurency": 3}, "App") == "App(concurency=…) is not a setting; did you mean 'concurrency'?"


def test_our_own_file_needs_no_table_above_the_settings(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("[tool.pgtasks]\nprocesses = 3")
    assert problem() == f"settings stand at the top of {tmp_path}/pgtasks.toml, without a [tool.pgtasks] above them"


def test_a_bad_number_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "ten")
    assert problem() == "environment variable PGTASKS_CONCURRENCY: must be a whole number, not 'ten'"


def test_a_bad_value_in_a_file_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("listen = 'sometimes'")
    assert problem() == f"'listen' in {tmp_path}/pgtasks.toml: must be true or false, not 'sometimes'"


def test_several_bad_values_are_told_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_PROCESSES", "0")
    assert problem({"poll_interval": 0}, "App") == (
        "environment variable PGTASKS_PROCESSES: must be at least 1, not '0'; "
        "App(poll_interval=…): must be more than 0, not 0"
    )


@pytest.mark.parametrize(
    ("explicit", "message"),
    [
        ({"processes": 0}, "command line option --processes: must be at least 1, not 0"),
        ({"processes": 4000}, "command line option --processes: must be at most 1000, not 4000"),
        ({"processes": True}, "command line option --processes: must be a number, not True"),
        ({"processes": 2.5}, "command line option --processes: must be a whole number, not 2.5"),
        ({"processes": None}, "command line option --processes: must be a whole number, not None"),
        ({"poll_interval": "nan"}, "command line option --poll-interval: must be a finite number, not 'nan'"),
        ({"shutdown_timeout": -1}, "command line option --shutdown-timeout: must be at least 0, not -1"),
        ({"job_timeout": 0}, "command line option --job-timeout: must be more than 0, not 0"),
        ({"job_grace": "inf"}, "command line option --job-grace: must be a finite number, not 'inf'"),
        (
            {"log_format": "xml"},
            "command line option --log-format: must be 'auto', 'console' or 'json', not 'xml'",
        ),
        ({"embedded_dir": 3}, "command line option --embedded-dir: must be a path, not 3"),
        (
            {"modules": ("shop/tasks.py",)},
            "command line argument MODULE: must name modules, not files: write 'shop.tasks' instead of 'shop/tasks.py'",
        ),
        (
            {"modules": ("shop-tasks",)},
            "command line argument MODULE: must be MODULE or MODULE:APP, like 'shop.tasks:app', not 'shop-tasks'",
        ),
        ({"forbidden_flags": [""]}, "command line option --forbidden-flag: must name flags, and '' cannot be one"),
        ({"schema": ""}, "command line option --schema: must not be empty"),
        (
            {"schema": "pg_jobs"},
            "command line option --schema: must not begin with 'pg_', which PostgreSQL keeps for itself",
        ),
        ({"schema": "a\0b"}, "command line option --schema: must not contain a NUL character"),
        ({"schema": "\udc80"}, "command line option --schema: is not valid Unicode"),
        (
            {"schema": "é" * 32},
            "command line option --schema: must have at most 63 bytes, as PostgreSQL's names do, and has 64",
        ),
        (
            {"schema": "a$pgtasks$b"},
            "command line option --schema: must not contain '$pgtasks$', which quotes the bodies of functions",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_plain_words(explicit: Mapping[str, object], message: str) -> None:
    assert problem(explicit) == message


def test_malformed_toml_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_text("processes = 3\nconcurrency = = 4\n")
    assert problem() == f"{tmp_path}/pgtasks.toml, line 2: not valid TOML: Invalid value"


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "pgtasks.toml").write_bytes("schema = 'è'".encode("latin-1"))
    assert problem() == f"{tmp_path}/pgtasks.toml: not valid TOML: it is not encoded in UTF-8"


def test_a_value_in_the_place_of_our_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\npgtasks = 3")
    assert problem() == f"'tool.pgtasks' in {tmp_path}/pyproject.toml must be a table, [tool.pgtasks]"


# Secrets


def test_the_password_is_in_the_connection_string_and_nowhere_else() -> None:
    settings = load_settings({"database_url": "postgresql://ada:s3cret@db/shop"})
    assert settings.conninfo == "postgresql://ada:s3cret@db/shop"
    assert "s3cret" not in f"{settings!r} {settings} {settings.describe()} {settings.model_dump()}"
    assert settings.describe()[0].value == "host=db dbname=shop user=ada"


def test_the_password_of_the_listening_connection_is_as_secret_and_reaches_child_processes() -> None:
    settings = load_settings({"listen_url": "postgresql://ada:s3cret@db/shop"})
    assert settings.listen_conninfo == "postgresql://ada:s3cret@db/shop"
    assert "s3cret" not in f"{settings!r} {settings} {settings.describe()} {settings.model_dump()}"
    assert Settings.from_json(settings.to_json()).listen_conninfo == settings.listen_conninfo
    assert "s3cret" not in problem({"listen_url": "postgresql://ada:s3cret@db:x/shop?nonsense=1"}, "App")


# The object


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load_settings(), "concurrency", 3)  # noqa: B010 - mypy sees the plain assignment


def test_the_constructor_reads_nothing_but_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "3")
    monkeypatch.setenv("CONCURRENCY", "4")
    assert Settings().concurrency == 10


def test_overrides_win_and_the_rest_keeps_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_CONCURRENCY", "3")
    settings = load_settings({"schema": "jobs"}, source="App").with_overrides("command line", processes=7)
    assert (settings.concurrency, settings.schema_name, settings.processes) == (3, "jobs", 7)
    assert [origin_of(settings, name) for name in ("concurrency", "schema", "processes")] == [
        "environment variable PGTASKS_CONCURRENCY",
        "App(schema=…)",
        "command line option --processes",
    ]


def test_an_override_that_cannot_be_used_names_its_source() -> None:
    with pytest.raises(SettingsError, match=r"^argument processes=…: must be at least 1, not 0$"):
        load_settings().with_overrides(processes=0)


def test_settings_survive_the_way_to_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {
            "database_url": "postgresql://ada:s3cret@db/shop",
            "modules": ["shop.tasks"],
            "shutdown_timeout": None,
            "embedded_dir": "x",
        }
    )
    monkeypatch.setenv("PGTASKS_NONSENSE", "is not read there")
    received = Settings.from_json(settings.to_json())
    assert received == settings
    assert received.conninfo == "postgresql://ada:s3cret@db/shop"
    assert received.describe() == settings.describe()


def test_the_way_to_a_child_process_is_json() -> None:
    assert json.loads(load_settings({"processes": 2}).to_json())["values"]["processes"] == 2


def test_a_description_has_every_setting_with_its_source() -> None:
    lines = load_settings({"forbidden_flags": ["smtp", "sms"]}, source="command line").describe()
    assert [line.name for line in lines] == list(Settings.names())
    assert ("forbidden_flags", "smtp, sms", "command line option --forbidden-flag") in lines
    assert ("listen", "true", "default") in lines
    assert ("database_url", "none", "default") in lines


# CPUs


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cpus(tmp_path) == 1


def test_an_older_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == 1


def test_without_a_limit_all_cpus_of_this_process_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cpus(tmp_path) == usable_cpus(tmp_path / "none") >= 1


# The documentation


@pytest.mark.parametrize("name", Settings.names())
def test_every_setting_is_documented(name: str) -> None:
    field = next(field for key, field in Settings.model_fields.items() if name in (key, field.alias))
    value = next(line.value for line in Settings().describe() if line.name == name)
    default = f"`{value}`" if value not in {"", "none"} else "none"
    default = "the CPUs that may be used" if name == "processes" else default
    row = f"| `{name}` | `{environment_name(name)}` | {default} | {field.description} |"
    assert row in SETTINGS_PAGE.read_text().splitlines()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    rows = [line.split("|")[1].strip() for line in SETTINGS_PAGE.read_text().splitlines() if "| `PGTASKS_" in line]
    assert rows == [f"`{name}`" for name in Settings.names()]
