from __future__ import annotations

import importlib
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

import pgtasks
from pgtasks.errors import AppLoadError, SettingsError
from pgtasks.loading import load_app
from pgtasks.registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASK = "from pgtasks import task\n@task\ndef send(payload): ...\n"
APP = "from pgtasks import App, Registry\napp = App(registry=Registry())\n@app.task\ndef send(payload): ...\n"


class Project:
    """A directory with the user's modules, first on Python's path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, source: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
        importlib.invalidate_caches()
        return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(default_registry, "_tasks", {})
    monkeypatch.setattr("pgtasks.app._Current.app", None)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    yield Project(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def problem(*modules: str) -> str:
    with pytest.raises(AppLoadError) as caught:
        load_app(modules)
    return str(caught.value)


def traceback_of(module: str) -> str:
    """The traceback in the message about `module`, in which nothing but the user's code is to be seen."""
    first, _, text = problem(module).partition("\n")
    assert first == f"module {module!r} cannot be imported:"
    assert "pgtasks/loading.py" not in text
    assert "importlib" not in text
    return "\n".join(line for line in text.splitlines() if line.strip(" ~^"))  # newer Pythons underline more


# Which app


def test_a_module_with_bare_tasks_belongs_to_the_app_of_the_package(project: Project) -> None:
    project.write("jobs.py", TASK)
    app = load_app(["jobs"])
    assert app is pgtasks.current_app()
    assert app.registry.names == ["send"]


def test_the_only_app_of_a_module_is_found(project: Project) -> None:
    project.write("jobs.py", APP)
    assert load_app(["jobs"]) is sys.modules["jobs"].app


def test_an_app_that_several_modules_share_is_one_app(project: Project) -> None:
    project.write("main.py", APP)
    project.write("jobs.py", "from main import app\n@app.task\ndef resize(payload): ...")
    assert load_app(["main", "jobs"]).registry.names == ["resize", "send"]


def test_the_app_that_is_named_is_taken(project: Project) -> None:
    project.write("jobs.py", APP + APP.replace("app", "other").replace("send", "resize"))
    assert load_app(["jobs:other"]).registry.names == ["resize"]


def test_a_module_in_a_package_is_found(project: Project) -> None:
    project.write("shop/__init__.py")
    project.write("shop/jobs.py", TASK)
    assert load_app(["shop.jobs"]).registry.names == ["send"]


def test_the_tasks_of_all_modules_are_registered(project: Project) -> None:
    project.write("mail.py", TASK)
    project.write("images.py", TASK.replace("send", "resize"))
    assert load_app(["mail", "images"]).registry.names == ["resize", "send"]


# Which app, in vain


def test_no_module_is_an_error_that_says_how_to_name_one(project: Project) -> None:
    assert problem() == (
        "no module with tasks was named: say `pgtasks worker myapp.tasks`, or set `modules` in the settings; "
        "--tasks-dir names a directory of executables and Python files"
    )


def test_two_apps_in_one_module_are_an_error(project: Project) -> None:
    project.write("jobs.py", APP + "other = App(registry=Registry())")
    assert problem("jobs") == "jobs hold 2 apps; say which with MODULE:APP"


def test_two_apps_that_are_both_named_are_an_error(project: Project) -> None:
    project.write("mail.py", APP)
    project.write("images.py", APP)
    assert problem("mail:app", "images:app") == "mail:app, images:app name 2 apps; one worker runs one app"


def test_an_app_that_is_not_there_is_named_with_the_nearest(project: Project) -> None:
    project.write("jobs.py", APP)
    assert problem("jobs:ap") == "module 'jobs' has no 'ap'; did you mean 'app'?"


def test_an_app_that_is_not_there_is_named_with_those_that_are(project: Project) -> None:
    project.write("jobs.py", APP)
    assert problem("jobs:worker") == "module 'jobs' has no 'worker'; it has app"


def test_an_app_that_is_not_there_is_an_error_where_there_is_none(project: Project) -> None:
    project.write("jobs.py", TASK)
    assert problem("jobs:app") == "module 'jobs' has no 'app'; it has no App"


def test_what_is_named_as_an_app_must_be_one(project: Project) -> None:
    project.write("jobs.py", APP)
    assert problem("jobs:send") == "jobs:send is not an App but a Task"


def test_modules_without_a_task_are_an_error(project: Project) -> None:
    project.write("jobs.py", "from pgtasks import task")
    project.write("mail.py")
    assert problem("jobs", "mail") == (
        "no task is registered in jobs, mail: decorate functions with @task, or name their module too"
    )


# Modules that are not there


def test_a_module_that_is_not_there_is_named_with_the_nearest(project: Project) -> None:
    project.write("jobs.py", TASK)
    assert problem("jbos") == (
        f"there is no module 'jbos' (looked for 'jbos' in {project.root} and Python's path); did you mean 'jobs'?"
    )


def test_a_module_that_is_not_in_its_package_is_named_with_the_nearest(project: Project) -> None:
    project.write("shop/__init__.py")
    project.write("shop/tasks.py", TASK)
    assert problem("shop.taks").startswith("there is no module 'shop.taks' ")
    assert problem("shop.taks").endswith("; did you mean 'shop.tasks'?")


def test_a_package_that_is_not_there_is_named_with_the_nearest(project: Project) -> None:
    project.write("shop/__init__.py")
    project.write("shop/tasks.py", TASK)
    assert problem("shpo.tasks") == (
        f"there is no module 'shpo' (looked for 'shpo.tasks' in {project.root} and Python's path); did you mean 'shop'?"
    )


def test_a_module_inside_of_a_module_that_is_no_package_is_not_there(project: Project) -> None:
    project.write("jobs.py", TASK)
    assert problem("jobs.mail").startswith("there is no module 'jobs.mail' ")


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("jobs.py", "jobs"),
        ("shop/jobs.py", "shop.jobs"),
        ("./shop/jobs.py", "shop.jobs"),
        ("shop/jobs", "shop.jobs"),
        ("shop/", "shop"),
        ("shop/__init__.py", "shop"),
        ("../shop/jobs.py", "shop.jobs"),
        ("/elsewhere/jobs.py", "jobs"),
    ],
)
def test_a_path_is_answered_with_the_module(project: Project, path: str, module: str) -> None:
    assert problem(path) == f"{path!r} is a path; name the module instead: {module}"


def test_a_path_in_full_is_answered_with_the_module(project: Project) -> None:
    path = project.write("shop/jobs.py", TASK)
    assert problem(str(path)) == f"{str(path)!r} is a path; name the module instead: shop.jobs"


@pytest.mark.parametrize("name", ["", ".jobs", "shop..jobs", "my-app", "jobs tasks"])
def test_what_cannot_be_a_module_is_refused(project: Project, name: str) -> None:
    assert problem(name) == f"{name!r} cannot be the name of a module: write it as in an import, like myapp.tasks"


def test_an_app_without_a_module_is_refused(project: Project) -> None:
    assert problem(":app").startswith("'' cannot be the name of a module")


# Modules that cannot be imported


def test_a_missing_import_of_the_users_is_shown_where_it_stands(project: Project) -> None:
    path = project.write("jobs.py", "import os\nimport no_such_thing\n")
    assert traceback_of("jobs") == dedent(f"""\
        Traceback (most recent call last):
          File "{path}", line 2, in <module>
            import no_such_thing
        ModuleNotFoundError: No module named 'no_such_thing'""")


def test_a_name_that_cannot_be_imported_is_shown_where_it_stands(project: Project) -> None:
    path = project.write("jobs.py", "from os import no_such_thing\n")
    assert f'File "{path}", line 1, in <module>' in traceback_of("jobs")


def test_an_error_deep_in_the_users_modules_is_shown_with_all_of_them(project: Project) -> None:
    first = project.write("jobs.py", "import shop.mail\n")
    project.write("shop/__init__.py")
    second = project.write("shop/mail.py", "def connect():\n    raise OSError('no route')\nconnect()\n")
    assert traceback_of("jobs") == dedent(f"""\
        Traceback (most recent call last):
          File "{first}", line 1, in <module>
            import shop.mail
          File "{second}", line 3, in <module>
            connect()
          File "{second}", line 2, in connect
            raise OSError('no route')
        OSError: no route""")


def test_what_led_to_the_users_error_is_shown_too(project: Project) -> None:
    project.write("jobs.py", "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError from error\n")
    text = traceback_of("jobs")
    assert "ZeroDivisionError: division by zero" in text
    assert "The above exception was the direct cause of the following exception" in text


def test_a_syntax_error_is_shown_with_its_line(project: Project) -> None:
    path = project.write("jobs.py", "def send(payload)\n    pass\n")
    text = traceback_of("jobs")
    assert text.startswith(f'  File "{path}", line 1\n    def send(payload)\n')
    assert "SyntaxError: " in text


def test_a_module_that_exits_is_shown_like_one_that_fails(project: Project) -> None:
    path = project.write("jobs.py", "import sys\nsys.exit('not today')\n")
    assert traceback_of("jobs") == dedent(f"""\
        Traceback (most recent call last):
          File "{path}", line 2, in <module>
            sys.exit('not today')
        SystemExit: not today""")


def test_an_interrupt_while_a_module_is_imported_interrupts(project: Project) -> None:
    project.write("jobs.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_app(["jobs"])


def test_a_bad_option_is_told_in_one_line_with_its_place(project: Project) -> None:
    path = project.write("jobs.py", "from pgtasks import task\n@task(priority=40000)\ndef send(payload): ...\n")
    assert problem("jobs") == (
        f"module 'jobs' cannot be imported: "
        f"@task: priority=40000 is out of range: it must be from -32768 to 32767 ({path}:2)"
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("concurency=5", "App(concurency=…) is not a setting; did you mean 'concurrency'?"),
        ("concurrency=0", "App(concurrency=…): must be at least 1, not 0"),
    ],
)
def test_a_bad_setting_of_the_app_is_not_blamed_on_the_command_line(
    project: Project, argument: str, message: str
) -> None:
    project.write("jobs.py", APP.replace("App(", f"App({argument}, "))
    with pytest.raises(SettingsError) as caught:
        load_app(["jobs"], {"processes": 2})
    assert str(caught.value) == message


def test_an_error_of_ours_that_names_its_place_is_not_given_another(project: Project) -> None:
    path = project.write("jobs.py", TASK + TASK)
    assert problem("jobs") == (
        f"module 'jobs' cannot be imported: Task 'send' is defined twice: at {path}:2 and at {path}:5; "
        f"give one of them another name with @task(name=...)"
    )
