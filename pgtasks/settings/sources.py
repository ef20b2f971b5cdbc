"""Where settings come from: explicit values, the environment, and a file.

Each source becomes a layer: the values that it gives, and for each the words that name where it stands, so that a
message can point at the place that is to be changed. A name that no setting has is an error in every source, since a
misspelt setting that is silently ignored is found in production.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pgtasks.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

ExplicitSource = Literal["command line", "App", "call"]
"""Who gives explicit values: it decides how an error message names them."""

ENVIRONMENT_PREFIX: Final = "PGTASKS_"
PLUGIN_PREFIX: Final = "PGTASKS_PLUGIN_"
"""Variables for plugins, `PGTASKS_PLUGIN_NAME__KEY`, which check them themselves."""
TEST_DATABASE: Final = "PGTASKS_TEST_DATABASE_URL"
"""The server that `pgtasks.testing` uses: no setting, and never the database of an application."""
JOINED: Final = frozenset({"plugins"})
"""Lists to which every source adds, where for other settings the strongest one counts."""
DIRECTORIES: Final = frozenset({"crontab", "embedded_dir", "tasks_dir"})
"""Paths, which start at the file that they stand in."""

LIBPQ_VARIABLES: Final = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
"""The variables of libpq that choose a database; a password or an SSL mode alone does not."""

SETTINGS_FILE: Final = "pgtasks.toml"
PROJECT_FILE: Final = "pyproject.toml"
PLUGIN_TABLE: Final = "plugin"
"""The table `[tool.pgtasks.plugin.NAME]` belongs to the plugin of that name."""

# What stands on the command line under another name than the setting's own.
_ARGUMENTS: Final = {
    "modules": "command line argument MODULE",
    "forbidden_flags": "command line option --forbidden-flag",
    "plugins": "command line option --plugin",
}

# Kubernetes puts these into every container for a service that is called "pgtasks" or "pgtasks-something".
_KUBERNETES: Final = re.compile(
    r"PGTASKS_(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives."""

    values: Mapping[str, Any]
    """Setting's name → value as the source has it."""
    origins: Mapping[str, str]
    """Setting's name → where the value stands, in the words of a message."""
    plugins: Mapping[str, Mapping[str, tuple[Any, str]]] = field(default_factory=dict)
    """Plugin's name → its settings, each with where it stands."""


def environment_name(name: str) -> str:
    """Return the environment variable of a setting.

    >>> environment_name("poll_interval")
    'PGTASKS_POLL_INTERVAL'
    """
    return ENVIRONMENT_PREFIX + name.upper()


def plugin_environment_name(plugin: str, key: str) -> str:
    """Return the environment variable of a plugin's setting.

    >>> plugin_environment_name("rate-limit", "url")
    'PGTASKS_PLUGIN_RATE_LIMIT__URL'
    """
    return f"{PLUGIN_PREFIX}{plugin.replace('-', '_')}__{key}".upper()


def explicit_name(name: str, source: ExplicitSource) -> str:
    """Return how a message names a value that was given explicitly.

    >>> explicit_name("poll_interval", "command line")
    'command line option --poll-interval'
    >>> explicit_name("poll_interval", "App")
    'App(poll_interval=…)'
    """
    if source == "command line":
        return _ARGUMENTS.get(name) or f"command line option --{name.replace('_', '-')}"
    return f"App({name}=…)" if source == "App" else f"argument {name}=…"


def explicit_layer(values: Mapping[str, Any], source: ExplicitSource, known: Collection[str]) -> Layer:
    """Take values that code or the command line gives; each one that is present counts, also a `None`."""
    place = explicit_name(PLUGIN_TABLE, source)
    plugins = _plugins(values.get(PLUGIN_TABLE, {}), place, lambda plugin, key: f"{plugin}.{key} in {place}")
    values = {name: value for name, value in values.items() if name != PLUGIN_TABLE}
    for name in values:
        if name not in known:
            raise SettingsError(f"{explicit_name(name, source)} is not a setting{did_you_mean(name, known)}")
    return Layer(values, {name: explicit_name(name, source) for name in values}, plugins)


def environment_layer(environ: Mapping[str, str], known: Collection[str]) -> Layer:
    """Read `PGTASKS_…`, then `DATABASE_URL`, then see whether libpq has variables of its own to read.

    An empty variable counts as one that is not set, as `docker compose` and CI systems pass them.
    """
    names = {environment_name(name): name for name in known}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    plugins: dict[str, dict[str, tuple[Any, str]]] = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == TEST_DATABASE:
            continue
        if variable.startswith(PLUGIN_PREFIX):
            plugin, separator, key = variable.removeprefix(PLUGIN_PREFIX).lower().partition("__")
            if separator:
                plugins.setdefault(plugin.replace("_", "-"), {})[key] = (value, f"environment variable {variable}")
            elif not _KUBERNETES.fullmatch(variable):
                raise SettingsError(
                    f"environment variable {variable} is not a setting: one of a plugin is {PLUGIN_PREFIX}NAME__KEY, "
                    "with two underscores"
                )
            continue
        if name := names.get(variable):
            # The service may be called like a setting: "pgtasks-health" has PGTASKS_HEALTH_PORT=tcp://….
            if value and not (_KUBERNETES.fullmatch(variable) and value.startswith(("tcp://", "udp://", "sctp://"))):
                values[name] = value
                origins[name] = f"environment variable {variable}"
        elif not _KUBERNETES.fullmatch(variable):
            raise SettingsError(f"environment variable {variable} is not a setting{did_you_mean(variable, names)}")
    if "database_url" not in values:
        libpq = [variable for variable in LIBPQ_VARIABLES if environ.get(variable)]
        if environ.get("DATABASE_URL"):
            values["database_url"] = environ["DATABASE_URL"]
            origins["database_url"] = "environment variable DATABASE_URL"
        elif libpq:
            values["database_url"] = ""
            origins["database_url"] = f"environment variable{'s' * (len(libpq) > 1)} {', '.join(libpq)}"
    return Layer(values, origins, plugins)


def file_layer(directory: Path, known: Collection[str]) -> Layer:
    """Read the nearest file that has settings: from a directory upwards, a `pgtasks.toml` or a `[tool.pgtasks]`.

    A `pyproject.toml` without that table is passed over: in a repository of several projects the settings may stand
    at its top. Both in one directory are an error, since whoever edits the one that is not read will wonder why.
    """
    for parent in (directory, *directory.parents):
        project_file, settings_file = parent / PROJECT_FILE, parent / SETTINGS_FILE
        table = _project_table(project_file) if project_file.is_file() else None
        if settings_file.is_file():
            if table:
                raise SettingsError(
                    f"there are settings in both {settings_file} and [tool.pgtasks] in {project_file}; keep one of them"
                )
            return _table_layer(_read_toml(settings_file), str(settings_file), parent, known)
        if table is not None:
            return _table_layer(table, f"[tool.pgtasks] in {project_file}", parent, known)
    return Layer({}, {})


def split_list(text: str) -> list[Any]:
    """Split the text of a list: JSON when it begins with a bracket, otherwise separated by commas.

    >>> split_list("shop.tasks, mail.tasks")
    ['shop.tasks', 'mail.tasks']
    >>> split_list('["a,b"]')
    ['a,b']
    """
    if text.lstrip().startswith("["):
        try:
            parsed: list[Any] = json.loads(text)
        except ValueError:
            raise ValueError("begins like a JSON list but is none; write 'one,two' or '[\"one\", \"two\"]'") from None
        return parsed
    return [item.strip() for item in text.split(",") if item.strip()]


def _table_layer(table: Mapping[str, Any], place: str, directory: Path, known: Collection[str]) -> Layer:
    values: dict[str, Any] = {}
    plugins: Mapping[str, Mapping[str, tuple[Any, str]]] = {}
    for name, value in table.items():
        if name == PLUGIN_TABLE:
            plugins = _plugins(value, f"{name!r} in {place}", lambda plugin, key: f"'plugin.{plugin}.{key}' in {place}")
        elif name in known:
            values[name] = value
        elif name == "tool" and isinstance(value, dict):
            raise SettingsError(f"settings stand at the top of {place}, without a [tool.pgtasks] above them")
        else:
            raise SettingsError(f"{name!r} in {place} is not a setting{did_you_mean(name, known)}")
    for name in DIRECTORIES & values.keys():
        if isinstance(relative := values[name], str):
            values[name] = directory / Path(relative).expanduser()
    return Layer(values, {name: f"{name!r} in {place}" for name in values}, plugins)


def _plugins(
    value: object, place: str, origin: Callable[[str, str], str]
) -> Mapping[str, Mapping[str, tuple[Any, str]]]:
    if not isinstance(value, dict) or not all(isinstance(inner, dict) for inner in value.values()):
        raise SettingsError(f"{place} must hold a table for each plugin, [….plugin.NAME]")
    return {
        plugin: {key: (inner, origin(plugin, key)) for key, inner in table.items()} for plugin, table in value.items()
    }


def _project_table(path: Path) -> dict[str, Any] | None:
    tool = _read_toml(path).get("tool", {})
    table = tool.get("pgtasks") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingsError(f"'tool.pgtasks' in {path} must be a table, [tool.pgtasks]")
    return table


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        problem, _, position = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", position)
        place = f"{path}, line {line[1]}" if line else str(path)
        raise SettingsError(f"{place}: not valid TOML: {problem}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not valid TOML: it is not encoded in UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
