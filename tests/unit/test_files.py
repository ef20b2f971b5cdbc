"""Finding and importing tasks that are files."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry
from pgtasks.errors import AppLoadError
from pgtasks.files import add_file_tasks, find_task_files
from pgtasks.loading import load_app
from pgtasks.registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN = "def run(payload): ...\n"
SCRIPT = "#!/bin/sh\n"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(default_registry, "_tasks", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in sys.modules if name.startswith("pgtasks-files")]:
        monkeypatch.delitem(sys.modules, name)  # of tests in this process that have loaded another directory
    modules = dict(sys.modules)
    yield tmp_path
    for name in sys.modules.keys() - modules.keys():
        if name.startswith("pgtasks-files"):
            del sys.modules[name]


def put(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)
    return path


def make_handler(path: Path, name: str) -> Any:
    async def run(payload: object) -> tuple[Path, str]:
        return path, name

    return run


def load(directory: Path, app: App | None = None) -> App:
    app = app or App(registry=Registry())
    add_file_tasks(app, directory, make_handler)
    return app


def test_names_are_where_files_lie(tasks: Path) -> None:
    for name in ("a", "b-c/d_e.sh", "b-c/f.js", "users.sh", "users/verify.sh"):
        put(tasks, name, SCRIPT)
    (tasks / "link").symlink_to(tasks / "b-c")
    (tasks / "b-c" / "up").symlink_to(tasks)
    (tasks / "linked.sh").symlink_to(tasks / "a")
    names = [file.name for file in find_task_files(tasks)]
    assert names == ["a", "b-c/d_e", "b-c/f", "link/d_e", "link/f", "linked", "users", "users/verify"]


def test_python_files_import_each_other_and_their_options_hold(tasks: Path) -> None:
    put(tasks, "users.py", "from pgtasks import task\n@task(queue='mail', flags=['smtp'])\n" + RUN)
    put(tasks, "users/all.py", "from .each import run as each\nfrom ._how import HOW\n\nasync def run(payload): ...\n")
    put(tasks, "users/each.py", "from pgtasks import task\n@task\n" + RUN)
    put(tasks, "users/_how.py", "HOW = 'fast'\n")
    app = load(tasks)
    assert app.registry.names == ["users", "users/all", "users/each"]
    assert (app.registry["users"].options.queue, app.registry["users"].options.flags) == ("mail", ("smtp",))
    assert app.registry["users/all"].is_async
    assert not len(default_registry)
    assert sys.modules["pgtasks-files.users.all"].each is app.registry["users/each"]


ANOTHER = "give one of them another name"
NO_TASK = "begin the file's name with _ if it is no task"
WITH_TASK = "from pgtasks import task\n"
LONG = "x" * 129


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a/b.sh": SCRIPT, "a/b": SCRIPT},
            f"DIR/a/b and DIR/a/b.sh are both the task 'a/b'; {ANOTHER}, or begin it with a dot",
        ),
        (
            {"a.py": RUN, "a.sh": SCRIPT},
            f"DIR/a.py and DIR/a.sh are both the task 'a'; {ANOTHER}, or begin it with a dot",
        ),
        ({"known.sh": SCRIPT}, f"DIR/known.sh makes a task 'known', and so does FILE:LINE; {ANOTHER}"),
        (
            {"a.py": "def rum(payload): ...\n"},
            "DIR/a.py has no function `run`, which is what a task's file is called by; did you mean 'rum'?",
        ),
        ({"a.py": "run = 7\n"}, f"`run` in DIR/a.py is no function; {NO_TASK}"),
        (
            {"a.py": "import nothing_there\n" + RUN},
            (
                "DIR/a.py cannot be imported:\nTraceback (most recent call last):\n"
                '  File "DIR/a.py", line 1, in <module>\n    import nothing_there\n'
                "ModuleNotFoundError: No module named 'nothing_there'"
            ),
        ),
        (
            {"a.py": WITH_TASK + "@task\ndef other(payload): ...\n" + RUN},
            (
                "DIR/a.py:2 has @task on 'other': of a file in the directory of tasks only the function `run` is a "
                "task; put others into files of their own, or into a module"
            ),
        ),
        (
            {"a.py": WITH_TASK + "@task(name='b')\n" + RUN},
            "DIR/a.py is the task 'a', and has @task(name='b'): leave the name out",
        ),
        (
            {f"{LONG}.sh": SCRIPT},
            f"DIR/{LONG}.sh cannot be a task: task has 129 characters, at most 128 can be stored: '{LONG[:40]}'…",
        ),
    ],
)
def test_a_file_that_cannot_be_a_task_is_an_error(tasks: Path, files: dict[str, str], message: str) -> None:
    app = App(registry=Registry())

    @app.task
    def known(payload: object) -> None: ...

    for name, text in files.items():
        put(tasks, name, text)
    with pytest.raises(AppLoadError) as caught:
        load(tasks, app)
    assert re.sub(r"\S+test_files.py:\d+", "FILE:LINE", str(caught.value)).replace(str(tasks), "DIR") == message


def test_a_python_file_with_a_shebang_may_lack_its_mode(tasks: Path) -> None:
    put(tasks, "a.py", "#!/usr/bin/env python3\n").chmod(0o644)
    with pytest.raises(AppLoadError, match=f"if it is a program of its own, chmod \\+x {tasks}/a.py"):
        load(tasks)


def test_a_directory_without_tasks_is_an_error(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtasks.app._Current.app", None)
    with pytest.raises(AppLoadError) as caught:
        load_app([], {"tasks_dir": tasks}, make_handler)
    assert str(caught.value) == (
        f"there is no task in the directory {tasks}: it takes executables, and Python files with a `run`"
    )
    with pytest.raises(AppLoadError, match=r"the directory of tasks cannot be read: .*/nowhere: No such file"):
        load_app([], {"tasks_dir": tasks / "nowhere"}, make_handler)
