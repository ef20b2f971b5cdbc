"""Tasks that are files: executables and Python files in a directory, each named by where it lies in it.

`users/emails/verify.sh` is the task `users/emails/verify`. What is executable and begins with `#!`, or is no Python
file, is run as a program of its own; every other `*.py` is imported, and its function `run` is the handler. Names are
those that Graphile Worker gives to such files.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from pgtasks.errors import AppLoadError, JobOptionError, TaskDefinitionError, did_you_mean
from pgtasks.importing import explaining
from pgtasks.job import check_task_name
from pgtasks.logs import get_logger
from pgtasks.registry import kept_apart
from pgtasks.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pgtasks.app import App

    MakeHandler = Callable[[Path, str], Callable[..., Any]]
    """Makes the handler of an executable of its path and its task's name."""

log = get_logger("pgtasks.files")

HANDLER: Final = "run"
"""The function of a Python file that is the task."""
_PACKAGE: Final = "pgtasks-files"
"""What the directory is as a package. No module can have that name, since no `import` could be written for it."""
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_PYTHON: Final = ".py"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file that is a task."""

    name: str
    """The task's name."""
    path: Path
    executable: bool
    """Whether it is run as a program of its own, and not imported."""


def add_file_tasks(app: App, directory: Path, make_handler: MakeHandler) -> None:
    """Register the files of a directory as tasks of an app.

    Raises:
        AppLoadError: two of them have the same name, or one has that of another task; or one cannot be a task.
    """
    files = find_task_files(directory)
    modules = _import([file for file in files if not file.executable], directory)
    for file in files:
        if (known := app.registry.get(file.name)) is not None:
            if known.inspected.file == str(file.path):
                continue  # loaded already in this process, as a test may do
            raise AppLoadError(
                f"{file.path} makes a task {file.name!r}, and so does {known.place}; give one of them another name"
            )
        try:
            if file.executable:
                task = app.task(name=file.name)(make_handler(file.path, file.name))
                task.inspected.file = task.place = str(file.path)
            else:
                _register(app, file, getattr(modules[file.name], HANDLER))
        except TaskDefinitionError as error:
            raise AppLoadError(f"{file.path} cannot be a task: {error}") from None


def find_task_files(directory: Path) -> list[TaskFile]:
    """Return the tasks that a directory holds, by name, and warn of files that look as if they were meant to be ones.

    Raises:
        AppLoadError: there is no such directory, or two files have the same name.
    """
    found: dict[str, TaskFile] = {}
    for path in _files(directory):
        executable = _is_executable(path)
        if not executable and path.suffix != _PYTHON:
            if _has_shebang(path):
                log.warning("task_file_ignored", path=str(path), message=f"it is not executable: chmod +x {path}")
            continue
        if not executable and path.name.startswith("_"):
            continue
        parts = path.relative_to(directory).with_suffix("").parts
        if not all(map(_PART.fullmatch, parts)):
            log.warning(
                "task_file_ignored", path=str(path), message="a name may have letters, digits, dashes and underscores"
            )
            continue
        file = TaskFile("/".join(parts), path, executable)
        if (other := found.get(file.name)) is not None:
            raise AppLoadError(
                f"{other.path} and {path} are both the task {file.name!r}; give one of them another name"
                + (", or begin it with a dot" if executable else "")
            )
        try:
            check_task_name(file.name)
        except JobOptionError as error:
            raise AppLoadError(f"{path} cannot be a task: {error}") from None
        found[file.name] = file
    return [found[name] for name in sorted(found)]


def is_hidden(name: str) -> bool:
    """Tell whether a file or directory of this name is left alone: hidden ones, caches, and what editors leave."""
    return name.startswith(".") or name.endswith("~") or name == "__pycache__"


def _files(directory: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Give the files below a directory, in a fixed order. Links are followed, but not in circles."""
    try:
        above |= {directory.resolve(strict=True)}
        entries = sorted(entry for entry in directory.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        raise AppLoadError(f"the directory of tasks cannot be read: {directory}: {error.strerror}") from None
    for entry in entries:
        if entry.is_file():
            yield entry
        elif entry.is_dir() and entry.resolve() not in above:
            yield from _files(entry, above)


def _is_executable(path: Path) -> bool:
    """Tell whether a file is a program. Where all files are executable, as on some mounts, a Python file needs `#!`."""
    return os.access(path, os.X_OK) and (path.suffix != _PYTHON or _has_shebang(path))


def _has_shebang(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _package(directory: Path) -> str:
    """Return the name of a package that is the directory, so that its files can import each other from it."""
    place = [str(directory)]
    name, number = _PACKAGE, 1
    while (known := sys.modules.get(name)) is not None:
        if known.__path__ == place:
            return name
        number += 1
        name = f"{_PACKAGE}-{number}"
    package = ModuleType(name)
    package.__path__ = place
    sys.modules[name] = package
    return name


def _import(files: list[TaskFile], directory: Path) -> dict[str, ModuleType]:
    """Import Python files; returns modules by the tasks' names, each with a `run` that can be called."""
    modules = {}
    package = _package(directory) if files else ""
    with kept_apart(package) as registered:
        for file in files:
            module = modules[file.name] = _import_file(".".join((package, *file.name.split("/"))), file.path)
            if not callable(getattr(module, HANDLER, None)):
                raise AppLoadError(_why_not_run(file, module))
    handlers = [getattr(module, HANDLER) for module in modules.values()]
    for task in registered:
        if not any(task is handler for handler in handlers):
            raise AppLoadError(
                f"{task.place} has @task on {task.name!r}: of a file in the directory of tasks only the function "
                f"`{HANDLER}` is a task; put others into files of their own, or into a module"
            )
    return modules


def _import_file(name: str, path: Path) -> ModuleType:
    """Import a file, by its path: found by its name, `users.py` would hide what is in `users/`."""
    if name in sys.modules:  # another file has imported it
        return _with_directory(sys.modules[name], path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = _with_directory(importlib.util.module_from_spec(spec), path)
    try:
        with explaining(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _with_directory(module: ModuleType, path: Path) -> ModuleType:
    """Let what is in `users/` be imported from there although there is a `users.py`, too."""
    if (directory := path.with_suffix("")).is_dir():
        module.__path__ = [str(directory)]
    return module


def _register(app: App, file: TaskFile, run: Any) -> None:
    if not isinstance(run, Task):
        app.task(name=file.name)(run)
        return
    if run.options.name not in (None, file.name):
        raise AppLoadError(
            f"{file.path} is the task {file.name!r}, and has @task(name={run.name!r}): leave the name out"
        )
    run.rename(file.name)  # and not another task, since other files may have imported it, to add jobs
    app.registry.add(run)


def _why_not_run(file: TaskFile, module: ModuleType) -> str:
    functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if HANDLER in functions or not hasattr(module, HANDLER):
        message = f"{file.path} has no function `{HANDLER}`, which is what a task's file is called by"
    else:
        message = f"`{HANDLER}` in {file.path} is no function"
    if _has_shebang(file.path):
        return f"{message}; if it is a program of its own, chmod +x {file.path}"
    return message + (did_you_mean(HANDLER, functions) or "; begin the file's name with _ if it is no task")
