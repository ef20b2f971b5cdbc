"""Importing the modules that hold tasks, and finding the app among them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.app import App, current_app
from pgtasks.errors import AppLoadError, PgtasksError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


_OURS = str(Path(__file__).parent) + os.sep


def load_app(modules: Sequence[str]) -> App:
    """Import `modules`, each `MODULE` or `MODULE:APP`, and return the app that they belong to.

    That is the one which is named; else the only `App` among the modules' globals; else the app of `pgtasks.task`.

    Raises:
        AppLoadError: a module cannot be imported (with the traceback of the user's code), names no app, there are
            several, or no task was registered.
    """
    if not modules:
        raise AppLoadError(
            "no module with tasks was named: say `pgtasks worker myapp.tasks`, or set `modules` in the settings"
        )
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
    app = candidates[0] if candidates else current_app()
    if not len(app.registry):
        raise AppLoadError(
            f"no task is registered in {', '.join(modules)}: decorate functions with @task, or name their module too"
        )
    return app


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        raise AppLoadError(f"{name!r} is a path; name the module instead: {_module_at(Path(name))}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppLoadError(f"{name!r} cannot be the name of a module: write it as in an import, like myapp.tasks")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppLoadError(
                f"there is no module {error.name!r} (looked for {name!r} in {sys.path[0] or '.'} and Python's path)"
                f"{did_you_mean(error.name, _siblings(error.name))}"
            ) from None
        raise AppLoadError(_with_users_traceback(name, error)) from None
    except PgtasksError as error:
        raise AppLoadError(f"module {name!r} cannot be imported: {_with_place(error)}") from None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AppLoadError(_with_users_traceback(name, error)) from None


def _module_at(path: Path) -> str:
    """The name of the module at `path`, as far as it can be told from here."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    if path.name == "__init__.py":
        path = path.parent
    parts = [part for part in path.with_suffix("").parts if part not in ("/", "..")]
    return path.stem if path.is_absolute() else ".".join(parts)


def _with_place(error: PgtasksError) -> str:
    """The message of an error of ours, with the line of the user's code that led to it."""
    message = str(error)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_machinery(frame.filename) and not frame.filename.startswith(_OURS):
            return message if frame.filename in message else f"{message} ({frame.filename}:{frame.lineno})"
    return message


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


def _with_users_traceback(name: str, error: BaseException) -> str:
    """The error with the frames of the user's modules only: neither ours nor the import system's."""
    frames = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error.with_traceback(frames), frames)).rstrip()
    return f"module {name!r} cannot be imported:\n{text}"


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__)
