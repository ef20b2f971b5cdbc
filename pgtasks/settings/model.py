"""The settings themselves: one frozen object with every setting's type, default, unit and limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pgtasks.errors import SettingsError
from pgtasks.settings.conninfo import check_conninfo, redact
from pgtasks.settings.cpus import usable_cpus
from pgtasks.settings.problems import explain, shorten
from pgtasks.settings.sources import JOINED, ExplicitSource, Layer, explicit_layer, split_list

DEFAULT_ORIGIN: Final = "default"
_SECRET: Final = ("database_url", "listen_url")
"""Settings that may hold a password."""


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {value}")  # noqa: TRY004 - pydantic reports a ValueError's own words
    return value


def _list(value: object) -> object:
    return split_list(value) if isinstance(value, str) else value


def _none(value: object) -> object:
    return None if isinstance(value, str) and value.lower() == "none" else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _database_url(value: SecretStr) -> SecretStr:
    check_conninfo(value.get_secret_value())
    return value


def _schema_name(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    if not value.isprintable() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise ValueError("is not valid Unicode")
    if (size := len(value.encode())) > 63:
        raise ValueError(f"must have at most 63 bytes, as PostgreSQL's names do, and has {size}")
    if value.startswith("pg_"):
        raise ValueError("must not begin with 'pg_', which PostgreSQL keeps for itself")
    if "$pgtasks$" in value:
        raise ValueError("must not contain '$pgtasks$', which quotes the bodies of functions")
    return value


def _module(value: str) -> str:
    module, colon, app = value.partition(":")
    if all(part.isidentifier() for part in module.split(".")):
        if not colon or all(part.isidentifier() for part in app.split(".")):
            return value
    elif module.endswith(".py"):
        dotted = module.removesuffix(".py").removeprefix("./").replace("/", ".")
        raise ValueError(f"must name modules, not files: write {dotted!r} instead of {module!r}")
    raise ValueError(f"must be MODULE or MODULE:APP, like 'shop.tasks:app', not {shorten(value)}")


def _flag(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError(f"must name flags, and {shorten(value)} cannot be one")
    return value


def _plugin(value: str) -> str:
    if not value.removeprefix("no:").strip():
        raise ValueError(f"must name plugins, and {shorten(value)} is no name")
    return value


def _join(first: object, second: object) -> object:
    try:
        return [*_list(first), *_list(second)]  # type: ignore[misc]  # one that is no list is an error in its turn
    except TypeError:
        return second


def _directory(value: Path) -> Path:
    return value.expanduser().absolute()


def _crontab_here() -> Path | None:
    path = Path("crontab").absolute()
    return path if path.is_file() else None


Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Seconds = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_no_bool)]


class SettingLine(NamedTuple):
    """One setting as `Settings.describe` shows it."""

    name: str
    value: str
    """Its value as text, without any secret."""
    origin: str
    """Where the value comes from, in the words that error messages use."""


class Settings(BaseSettings):
    """All settings, checked and frozen.

    The constructor checks exactly what it is given and reads nothing else; `load_settings` reads the sources.
    """

    # Values are hidden in pydantic's own messages too: one of them may be a password.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        default=None,
        description="The database: a URL or `key=value` pairs as libpq reads them. Empty: libpq's `PG…` variables.",
    )
    schema_name: Annotated[str, AfterValidator(_schema_name)] = Field(
        default="graphile_worker",
        alias="schema",
        description="The schema that holds the queue. At most 63 bytes, not beginning with `pg_`.",
    )
    modules: Annotated[Names, AfterValidator(lambda names: tuple(map(_module, names)))] = Field(
        default=(), description="What a worker imports to find tasks: `MODULE` or `MODULE:APP`, any number."
    )
    tasks_dir: Annotated[Path, AfterValidator(_directory)] | None = Field(
        default=None,
        description="A directory whose executables and Python files are tasks. A relative path in a file starts at "
        "that file.",
    )
    crontab: Annotated[Path | None, BeforeValidator(_none), AfterValidator(lambda path: path and _directory(path))] = (
        Field(
            default_factory=_crontab_here,
            description="The crontab file, or `none`. By default `crontab` in the current directory, if it is there. A "
            "relative path in a file starts at that file.",
        )
    )
    processes: Annotated[Count, Field(ge=1, le=1000)] = Field(
        default_factory=usable_cpus, description="Worker processes on this host, 1 to 1000."
    )
    concurrency: Annotated[Count, Field(ge=1, le=10_000)] = Field(
        default=10, description="Jobs that one worker process runs at a time, 1 to 10000."
    )
    poll_interval: Annotated[Seconds, Field(gt=0)] = Field(
        default=2.0, description="Seconds between two looks for jobs of an idle host, more than 0."
    )
    listen: bool = Field(
        default=True, description="Whether workers listen for notifications of new jobs between two looks."
    )
    listen_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        default=None,
        description="The same database by another address, to listen there: for when `database_url` leads to a pooler "
        "in transaction mode.",
    )
    migrate: bool = Field(default=True, description="Whether a worker brings the schema up to date when it starts.")
    shutdown_timeout: Annotated[Annotated[Seconds, Field(ge=0)] | None, BeforeValidator(_none)] = Field(
        default=25.0,
        description="Seconds that running jobs are waited for at shutdown; then they are cut off and given back. "
        "`none`: for as long as they take.",
    )
    stale_after: Annotated[Seconds, Field(ge=1)] = Field(
        default=30.0,
        description="Seconds without a heartbeat after which any host gives a worker's jobs to others, at least 1. "
        "Must be the same on all hosts.",
    )
    max_interruptions: Annotated[Count, Field(ge=0)] = Field(
        default=5,
        description="How often a job may be given back because its host was lost; then it has failed for good.",
    )
    job_timeout: Annotated[Annotated[Seconds, Field(gt=0)] | None, BeforeValidator(_none)] = Field(
        default=None,
        description="Seconds after which a running job is asked to stop, for tasks that set no `timeout` of their own. "
        "`none`: never.",
    )
    job_grace: Annotated[Annotated[Seconds, Field(ge=0)] | None, BeforeValidator(_none)] = Field(
        default=5.0,
        description="Seconds that such a job has to stop before its process is killed, for tasks that set no `grace` "
        "of their own. `none`: it never is.",
    )
    result_ttl: Annotated[Seconds, Field(gt=0, le=1e9)] = Field(
        default=86_400.0,
        description="Seconds for which the results of tasks with `store_result=True` are kept.",
    )
    forbidden_flags: Annotated[Names, AfterValidator(lambda names: tuple(map(_flag, names)))] = Field(
        default=(), description="Flags whose jobs a worker leaves alone."
    )
    max_jobs: Annotated[Annotated[Count, Field(ge=1)] | None, BeforeValidator(_none)] = Field(
        default=None, description="Jobs after which a worker process is replaced by a fresh one. `none`: never."
    )
    max_memory: Annotated[Annotated[Count, Field(ge=1)] | None, BeforeValidator(_none)] = Field(
        default=None, description="Megabytes of memory above which a worker process is replaced. `none`: never."
    )
    max_lifetime: Annotated[Annotated[Seconds, Field(gt=0)] | None, BeforeValidator(_none)] = Field(
        default=None, description="Seconds after which a worker process is replaced. `none`: never."
    )
    health_port: Annotated[Annotated[Count, Field(ge=0, le=65535)] | None, BeforeValidator(_none)] = Field(
        default=None,
        description="The port at which a worker answers `/live` and `/ready` by HTTP. 0: any that is free. `none`: it "
        "does not.",
    )
    health_address: Annotated[str, Field(min_length=1)] = Field(
        default="127.0.0.1", description="The address at which it does."
    )
    stalled_after: Annotated[Seconds, Field(ge=1)] = Field(
        default=30.0,
        description="Seconds without a sign of life after which a worker process counts as stuck, at least 1.",
    )
    plugins: Annotated[Names, AfterValidator(lambda names: tuple(map(_plugin, names)))] = Field(
        default=(),
        description="Plugins to load beside those that installed distributions offer: such a name, or a module. "
        "`no:NAME` keeps one from being loaded. All sources are added up.",
    )
    autoload_plugins: bool = Field(
        default=True,
        description="Whether the plugins that installed distributions offer are loaded without being named.",
    )
    required_plugins: Names = Field(
        default=(), description="Plugins without which nothing starts: guards against an installation that lacks one."
    )
    broken_plugins: Annotated[Literal["refuse", "warn"], BeforeValidator(_lower)] = Field(
        default="refuse",
        description="What a plugin that cannot be loaded leads to: `refuse` to start, or `warn` and go on without it.",
    )
    hook_timeout: Annotated[Seconds, Field(gt=0)] = Field(
        default=1.0, description="Seconds that a worker waits for a plugin's answer before it goes on without it."
    )
    trace_hooks: bool = Field(default=False, description="Whether every call of a hook is logged, at level `debug`.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="The least severe messages that a command writes."
    )
    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(_lower)] = Field(
        default="auto", description="How messages are written: `auto` is `console` on a terminal, `json` elsewhere."
    )
    embedded_dir: Annotated[Path, AfterValidator(_directory)] | None = Field(
        default=None,
        description="Where the embedded PostgreSQL keeps its data; by default `.pgtasks` in the project. "
        "A relative path in a file starts at that file.",
    )
    pool_max_size: Annotated[Count, Field(ge=1, le=1000)] = Field(
        default=10,
        description="Connections that a program which adds jobs keeps at most, 1 to 1000. "
        "A worker with transactional tasks may keep two for each job it runs at a time, if that is more.",
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _plugins: dict[str, dict[str, tuple[Any, str]]] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the constructor's arguments: pydantic's own sources do not tell whence a value came."""
        return (init_settings,)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return every setting's name as users write it, in the order of the documentation."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @classmethod
    def from_layers(cls, *layers: Layer) -> Self:
        """Check what layers give, the first one being the strongest.

        Raises:
            SettingsError: A value cannot be used. The message is one line that names each such value and its source.
        """
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        plugins: dict[str, dict[str, tuple[Any, str]]] = {}
        for layer in reversed(layers):
            joined = {
                name: _join(values[name], layer.values[name]) for name in JOINED & values.keys() & layer.values.keys()
            }
            joined_origins = {name: f"{origins[name]} and {layer.origins[name]}" for name in joined}
            values |= {**layer.values, **joined}
            origins |= {**layer.origins, **joined_origins}
            for plugin, table in layer.plugins.items():
                plugins.setdefault(plugin, {}).update(table)
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise SettingsError(_explain_all(error, origins)) from None
        settings._origins.update(origins)
        settings._plugins.update(plugins)
        return settings

    @property
    def conninfo(self) -> str | None:
        """The database as libpq's connection string, with its password; `None` when none is configured."""
        return None if self.database_url is None else self.database_url.get_secret_value()

    @property
    def listen_conninfo(self) -> str | None:
        """Where to listen, if not at `conninfo`, likewise with its password."""
        return None if self.listen_url is None else self.listen_url.get_secret_value()

    def of_plugin(self, name: str) -> dict[str, tuple[Any, str]]:
        """Return what the sources say for a plugin, unchecked: by key, each value and where it stands."""
        return dict(self._plugins.get(name, {}))

    @property
    def plugin_tables(self) -> tuple[str, ...]:
        """Names of the plugins for which there are settings."""
        return tuple(self._plugins)

    def describe(self) -> list[SettingLine]:
        """Return every setting with its value as text and where it comes from, secrets left out."""
        return [
            SettingLine(name, _as_text(getattr(self, attribute)), self._origins.get(name, DEFAULT_ORIGIN))
            for name, attribute in zip(self.names(), type(self).model_fields, strict=True)
        ]

    def with_overrides(self, source: ExplicitSource = "call", /, **values: object) -> Self:
        """Return these settings with some values replaced.

        Args:
            source: Who gives the values, for error messages.
            values: Settings by name (`schema=…`, `processes=…`).

        Raises:
            SettingsError: A name is unknown or a value cannot be used.
        """
        below = self._as_layer()
        if JOINED & values.keys():  # replaced, like everything else that is given here
            below = replace(below, values={name: value for name, value in below.values.items() if name not in values})
        return self.from_layers(explicit_layer(values, source, self.names()), below)

    def to_json(self) -> str:
        """Return everything, **the password too**, for a child process: through a pipe, never as an argument."""
        layer = self._as_layer()
        return orjson.dumps(
            {"values": layer.values, "origins": layer.origins, "plugins": layer.plugins}, default=str
        ).decode()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the settings that `to_json` wrote; neither the environment nor any file is read."""
        stored = orjson.loads(text)
        return cls.from_layers(Layer(stored["values"], stored["origins"], stored["plugins"]))

    def _as_layer(self) -> Layer:
        values = self.model_dump(mode="json", by_alias=True) | {
            "database_url": self.conninfo,
            "listen_url": self.listen_conninfo,
        }
        return Layer(values, self._origins, self._plugins)


def _as_text(value: object) -> str:
    match value:
        case SecretStr():
            return redact(value.get_secret_value())
        case tuple():
            return ", ".join(value)
        case bool() | None:
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _explain_all(error: ValidationError, origins: dict[str, str]) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        problems.append(f"{origins.get(name, name)}: {explain(detail, secret=name in _SECRET)}")
    return "; ".join(problems)
