"""Importing the modules that hold tasks, and finding the app among them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks.app import App, current_app
from pgtasks.errors import AppLoadError, did_you_mean
from pgtasks.files import add_file_tasks
from pgtasks.importing import explaining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from pgtasks.files import MakeHandler


def load_app(
    modules: Sequence[str], explicit: Mapping[str, Any] | None = None, make_handler: MakeHandler | None = None
) -> App:
    """Import `modules`, each `MODULE` or `MODULE:APP`, and return the app that they belong to.

    That is the one which is named; else the only `App` among the modules' globals; else the app of `pgtasks.task`.

    Args:
        modules: may be none if the tasks are files.
        explicit: the command line's settings, which win over those of the app.
        make_handler: makes the handler of an executable; then the files of the setting `tasks_dir` are tasks, too.

    Raises:
        AppLoadError: a module cannot be imported (with the traceback of the user's code), names no app, there are
            several, a file cannot be a task, or no task was registered.
        SettingsError: a setting cannot be used.
    """
    app = _find_app(modules)
    if explicit is not None:
        app.override(explicit)
    directory = None if make_handler is None else app.settings.tasks_dir
    if not (modules or directory):
        raise AppLoadError(
            "no module with tasks was named: say `pgtasks worker myapp.tasks`, or set `modules` in the settings; "
            "--tasks-dir names a directory of executables and Python files"
        )
    if make_handler is not None and directory is not None:
        add_file_tasks(app, directory, make_handler)
    if not len(app.registry):
        raise AppLoadError(_why_no_task(modules, directory))
    return app


def _find_app(modules: Sequence[str]) -> App:
    named: list[App] = []
    found: list[App] = []
    for target in modules:
        name, _, attribute = target.partition(":")
        module = _import(name)
        if attribute:
            named.append(_attribute(module, attribute))
        found += [value for value in vars(module).values() if isinstance(value, App)]
    candidates = list(dict.fromkeys(named or found))
    if named and len(candidates) > 1:
        raise AppLoadError(f"{', '.join(modules)} name {len(candidates)} apps; one worker runs one app")
    if len(candidates) > 1:
        raise AppLoadError(f"{', '.join(modules)} hold {len(candidates)} apps; say which with MODULE:APP")
    return candidates[0] if candidates else current_app()


def _why_no_task(modules: Sequence[str], directory: Path | None) -> str:
    where = ", ".join(modules)
    if directory is None:
        return f"no task is registered in {where}: decorate functions with @task, or name their module too"
    also = f", and none is registered in {where}" if modules else ""
    return f"there is no task in the directory {directory}{also}: it takes executables, and Python files with a `run`"


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        raise AppLoadError(f"{name!r} is a path; name the module instead: {_module_at(Path(name))}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppLoadError(f"{name!r} cannot be the name of a module: write it as in an import, like myapp.tasks")
    try:
        with explaining(f"module {name!r}", missing=name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent = error.name or name
        raise AppLoadError(
            f"there is no module {absent!r} (looked for {name!r} in {sys.path[0] or '.'} and Python's path)"
            f"{did_you_mean(absent, _siblings(absent))}"
        ) from None


def _module_at(path: Path) -> str:
    """The name of the module at `path`, as far as it can be told from here."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if path.name == "__init__.py":
        path = path.parent
    parts = [part for part in path.with_suffix("").parts if part not in ("/", "..")]
    return path.stem if path.is_absolute() else ".".join(parts)


def _attribute(module: ModuleType, attribute: str) -> App:
    value = getattr(module, attribute, None)
    if isinstance(value, App):
        return value
    if value is not None:
        raise AppLoadError(f"{module.__name__}:{attribute} is not an App but a {type(value).__name__}")
    apps = [name for name, item in vars(module).items() if isinstance(item, App)]
    hint = did_you_mean(attribute, apps) or (f"; it has {', '.join(apps)}" if apps else "; it has no App")
    raise AppLoadError(f"module {module.__name__!r} has no {attribute!r}{hint}")


def _siblings(name: str) -> list[str]:
    """Names of modules that `name` may have been meant for."""
    package, _, _ = name.rpartition(".")
    if package:
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
    else:
        places = sys.path[:1]
    prefix = f"{package}." if package else ""
    return [
        prefix + path.stem
        for place in places
        for path in Path(place or ".").glob("*")
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
