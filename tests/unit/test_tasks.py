from __future__ import annotations

import datetime as dt
import functools
import importlib
import importlib.util
import inspect
import math
import sys
import typing
from typing import TYPE_CHECKING, Any

import pytest

import pgtasks
from pgtasks import App, JobContext, Registry, TaskDefinitionError
from pgtasks.decorating import TaskDecorator
from pgtasks.errors import JobOptionError
from pgtasks.job import JobSpec
from pgtasks.options import TaskOptions
from pgtasks.registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from pgtasks.job import Job
    from pgtasks.tasks import Task


class Sent:
    """An enqueuer that only keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, object]] = []
        self.options: dict[str, object] = {}

    def add_spec(self, spec: JobSpec, connection: object, **options: object) -> Job:
        self.calls.append(([spec], connection))
        self.options = options
        return typing.cast("Job", spec)

    def add_many(self, jobs: object, template: JobSpec | None, connection: object, **options: object) -> list[Job]:
        self.calls.append(((jobs, template), connection))
        self.options = options
        return []

    async def add_spec_async(self, spec: JobSpec, connection: object, **options: object) -> Job:
        return self.add_spec(spec, connection, **options)

    async def add_many_async(
        self, jobs: object, template: JobSpec | None, connection: object, **options: object
    ) -> list[Job]:
        return self.add_many(jobs, template, connection, **options)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def task(registry: Registry, sent: Sent) -> TaskDecorator:
    return TaskDecorator(registry, lambda: sent)


@pytest.fixture
def own_default_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_registry, "_tasks", {})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_default_registry: None) -> Iterator[Callable[..., Path]]:
    """Writes a module that can be imported, and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        importlib.invalidate_caches()
        return path

    yield write
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def problem(decorate: Callable[[], object]) -> str:
    with pytest.raises(TaskDefinitionError) as caught:
        decorate()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def function(source: str) -> Any:
    """The function `f` of a source that is not compiled with annotations as strings, unless it says so."""
    namespace: dict[str, Any] = {"JobContext": JobContext, "pgtasks": pgtasks, "typing": typing}
    exec(compile(source, "shapes.py", "exec", dont_inherit=True), namespace)
    return namespace["f"]


def import_as(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# What the decorator does


def test_a_bare_decorator_registers_the_function_under_its_own_name(task: TaskDecorator, registry: Registry) -> None:
    @task
    def send(payload: object) -> object:
        return payload

    assert registry["send"] is send
    assert send.options == TaskOptions()


def test_a_decorator_with_options_keeps_them(task: TaskDecorator, registry: Registry) -> None:
    @task(name="mail.send", queue="mail", priority=-3, max_attempts=5, flags=["smtp"])
    def send(payload: object) -> None: ...

    assert registry["mail.send"] is send
    assert send.options == TaskOptions(name="mail.send", queue="mail", priority=-3, max_attempts=5, flags=("smtp",))


def test_a_time_limit_may_be_infinite(task: TaskDecorator) -> None:
    @task(timeout=math.inf, grace=10**400)
    def send(payload: object) -> None: ...

    assert send.options == TaskOptions(timeout=math.inf, grace=math.inf)

    @task(name="short", timeout=dt.timedelta(minutes=1), grace=dt.timedelta(milliseconds=500))
    def short() -> None: ...

    assert (short.options.timeout, short.options.grace) == (60, 0.5)


def test_a_decorator_with_empty_brackets_is_a_bare_one(task: TaskDecorator, registry: Registry) -> None:
    @task()
    def send(payload: object) -> None: ...

    assert registry["send"] is send


def test_calling_a_task_runs_its_function_here_and_now(task: TaskDecorator, sent: Sent) -> None:
    @task
    def double(payload: int) -> int:
        return payload * 2

    assert double(21) == 42
    assert sent.calls == []


def test_a_task_still_looks_like_its_function(task: TaskDecorator) -> None:
    def send(payload: object) -> None:
        """Sends."""

    decorated = task(send)
    assert (decorated.__name__, decorated.__doc__, decorated.__module__) == ("send", "Sends.", __name__)  # type: ignore[attr-defined]
    assert inspect.signature(decorated) == inspect.signature(send)
    assert repr(decorated) == f"<Task 'send' at {__file__}:{send.__code__.co_firstlineno}>"


def test_an_async_function_is_known_as_one(task: TaskDecorator) -> None:
    @task
    async def fetch(payload: object) -> None: ...

    @task
    def send(payload: object) -> None: ...

    assert fetch.is_async
    assert not send.is_async


def test_the_tasks_of_an_app_are_not_those_of_another() -> None:
    one, other = App(registry=Registry()), App(registry=Registry())

    @one.task
    def send(payload: object) -> None: ...

    assert "send" in one.registry
    assert "send" not in other.registry


@pytest.mark.usefixtures("own_default_registry")
def test_the_decorator_of_the_package_adds_through_the_newest_app(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pgtasks.app._Current.app", None)

    send = pgtasks.task(function("def f(payload): ..."))
    App()
    newest = App()
    added: list[JobSpec] = []
    monkeypatch.setattr(newest, "add_spec", lambda spec, _, notify: added.append(spec))
    send.defer("x")
    assert [spec.payload for spec in added] == ["x"]
    assert newest.registry["f"] is send


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempt": 3}, "@task has no option 'max_attempt'; did you mean 'max_attempts'?"),
        ({"max_retries": 3}, "@task has no option 'max_retries'; did you mean 'max_attempts'?"),
        (
            {"schedule": "* * * * *"},
            (
                "@task has no option 'schedule'; "
                "it has name, queue, priority, max_attempts, flags, transactional, timeout, grace, store_result, "
                "retry, retry_on, no_retry_on, expected, upgrade, invalid_payload"
            ),
        ),
        ({"bind": True}, "@task has no option 'bind'; a parameter `ctx: JobContext` gets the context of the job"),
        ({"cron": "@daily"}, "@task has no option 'cron'; times are given by `@task.cron(…)` above it"),
        ({"priority": 40000}, "@task: priority=40000 is out of range: it must be from -32768 to 32767"),
        ({"max_attempts": 0}, "@task: max_attempts=0 is out of range: it must be from 1 to 32767"),
        ({"max_attempts": True}, "@task: max_attempts=True must be a whole number, not bool"),
        ({"timeout": 0}, "@task: timeout=0 must be more than 0 seconds; use math.inf for no time limit"),
        ({"timeout": math.nan}, "@task: timeout=nan must be more than 0 seconds; use math.inf for no time limit"),
        ({"timeout": "5"}, "@task: timeout='5' must be a timedelta or a number of seconds, not str"),
        ({"grace": -1}, "@task: grace=-1 must be at least 0 seconds; use math.inf to never kill a process"),
        ({"grace": True}, "@task: grace=True must be a timedelta or a number of seconds, not bool"),
        ({"flags": "smtp"}, "@task: flags='smtp' must be a list of strings; write flags=['smtp']"),
        ({"queue": ""}, "@task: queue must not be empty"),
        ({"name": "n" * 129}, f"@task: name has 129 characters, at most 128 can be stored: '{'n' * 40}'…"),
        ({"name": 5}, "@task: name=5 must be a string, not int"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_an_option_that_cannot_be_is_refused_by_name(
    task: TaskDecorator, registry: Registry, options: dict[str, Any], message: str
) -> None:
    assert problem(lambda: task(**options)(function("def f(payload): ..."))) == message
    assert len(registry) == 0


# Names


def test_two_functions_of_one_name_are_shown_with_both_places(task: TaskDecorator, registry: Registry) -> None:
    def send(payload: object) -> None: ...

    first = task(send)

    def again() -> object:
        @task(name="send")
        def resend(payload: object) -> None: ...

        return resend

    line = send.__code__.co_firstlineno
    assert problem(again) == (
        f"Task 'send' is defined twice: at {__file__}:{line} and at {__file__}:{line + 5}; "
        f"give one of them another name with @task(name=...)"
    )
    assert registry["send"] is first


def test_two_functions_of_one_name_in_one_file_are_an_error(write: Callable[..., Path]) -> None:
    path = write("twice", "from pgtasks import task\n@task\ndef send(p): ...\n@task\ndef send(p): ...\n")
    message = problem(lambda: importlib.import_module("twice"))
    assert f"at {path}:2 and at {path}:4; " in message


def test_two_functions_of_one_name_in_two_files_are_an_error(write: Callable[..., Path]) -> None:
    one = write("one", "from pgtasks import task\n@task\ndef send(p): ...\n")
    other = write("other", "import one\n" + one.read_text())
    message = problem(lambda: importlib.import_module("other"))
    assert f"at {one}:2 and at {other}:3; " in message


def test_a_module_may_be_reloaded(write: Callable[..., Path]) -> None:
    write("again", "from pgtasks import task\n@task\ndef send(p): return 1\n")
    module = importlib.import_module("again")
    write("again", "from pgtasks import task\n\n@task\ndef send(p): return 2\n")
    importlib.reload(module)
    assert default_registry["send"] is module.send
    assert module.send(None) == 2


def test_a_module_may_be_imported_under_two_names(write: Callable[..., Path]) -> None:
    path = write("here", "from pgtasks import task\n@task\ndef send(p): ...\n")
    importlib.import_module("here")
    second = import_as("package.here", path)
    assert default_registry["send"] is second.send


def test_a_script_may_be_imported_by_what_it_imports(write: Callable[..., Path]) -> None:
    path = write("script", "from pgtasks import task\n@task\ndef send(p): ...\n")
    # As `python script.py` does: a `__main__` without a spec.
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__", "__spec__": None})
    module = importlib.import_module("script")
    assert default_registry["send"] is module.send


def test_a_function_may_be_defined_again_at_a_prompt(task: TaskDecorator, registry: Registry) -> None:
    for result in (1, 2):
        exec(compile(f"@task\ndef f(p): return {result}", "<stdin>", "exec"), {"task": task, "__name__": "__main__"})
    assert registry["f"](None) == 2


def test_a_cell_of_a_notebook_may_be_edited_and_run_again(
    task: TaskDecorator, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    for result in (1, 2):
        code = compile(f"@task\ndef f(p): return {result}", f"/tmp/ipykernel_7/{result}.py", "exec")
        exec(code, {"task": task, "__name__": "__main__"})
    assert registry["f"](None) == 2


def test_a_task_that_is_not_registered_is_named_with_the_nearest(task: TaskDecorator, registry: Registry) -> None:
    task(name="send_email")(function("def f(payload): ..."))
    assert problem(lambda: registry["send_mial"]) == ("Task 'send_mial' is not registered; did you mean 'send_email'?")
    assert registry.get("send_mial") is None


def test_a_registry_tells_its_names_in_order(task: TaskDecorator, registry: Registry) -> None:
    for name in ("b", "a"):
        task(name=name)(function("def f(payload): ..."))
    assert registry.names == ["a", "b"]
    assert [each.name for each in registry] == ["b", "a"]
    assert len(registry) == 2
    assert "a" in registry


# What can be a task


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ("def f(): ...", ""),
        ("def f(payload): ...", "payload"),
        ("def f(payload, /): ...", "payload"),
        ("def f(payload=None): ...", "payload"),
        ("def f(payload, /, **options): ...", "payload"),
        ("def f(*args): ...", "payload"),
        ("def f(*args, **options): ...", "payload"),
        ("def f(payload, *args, **options): ...", "payload"),
        ("def f(context: dict): ...", "payload"),
        ("def f(a, b): ...", "keys"),
        ("def f(payload, retries=3): ...", "keys"),
        ("def f(*, payload): ...", "keys"),
        ("def f(*, option=1): ...", "keys"),
        ("def f(**options): ...", "keys"),
        ("def f(payload, **options): ...", "keys"),
        ("def f(payload, ctx: dict): ...", "keys"),
        ("def f(payload, ctx: 'MyJobContext'): ...", "keys"),
        ("def f(ctx): ...", "context"),
        ("def f(context): ...", "context"),
        ("def f(job: JobContext): ...", "context"),
        ("def f(*, ctx): ...", "context"),
        ("def f(ctx, *, option=1): ...", "keys, context"),
        ("def f(a, ctx, b): ...", "keys, context"),
        ("def f(a, b, job: JobContext): ...", "keys, context"),
        ("def f(ctx, payload): ...", "payload, context"),
        ("def f(ctx, payload=None): ...", "payload, context"),
        ("def f(payload, *, ctx): ...", "payload, context"),
        ("def f(payload, ctx): ...", "payload, context"),
        ("def f(payload, context): ...", "payload, context"),
        ("def f(payload, ctx=None): ...", "payload, context"),
        ("def f(payload, ctx, /, *args, **options): ...", "payload, context"),
        ("def f(payload, job: JobContext): ...", "payload, context"),
        ("def f(payload, job: 'JobContext'): ...", "payload, context"),
        ("def f(payload, job: pgtasks.JobContext): ...", "payload, context"),
        ("def f(payload, job: 'pgtasks.JobContext'): ...", "payload, context"),
        ("def f(payload, job: JobContext | None = None): ...", "payload, context"),
        ("def f(payload, job: typing.Optional['JobContext'] = None): ...", "payload, context"),
        ("def f(payload, job: typing.Annotated[JobContext, 1]): ...", "payload, context"),
        ("from __future__ import annotations\ndef f(payload, job: JobContext): ...", "payload, context"),
        ("from __future__ import annotations\ndef f(payload, job: 'JobContext'): ...", "payload, context"),
        ("from __future__ import annotations\ndef f(payload, job: NotImported | JobContext): ...", "payload, context"),
        ("async def f(payload, ctx): ...", "payload, context"),
    ],
)
def test_a_handler_gets_what_its_signature_asks_for(task: TaskDecorator, source: str, takes: str) -> None:
    decorated = task(name="f")(function(source))
    payload = "keys" if decorated.inspected.by_keys else "payload"
    got = [payload] * decorated.takes_payload + ["context"] * decorated.takes_context
    assert ", ".join(got) == takes


@pytest.mark.parametrize(
    ("source", "called_with", "got"),
    [
        ("def f(payload, ctx): return payload, ctx", ({"a": 1}, "ctx"), ({"a": 1}, "ctx")),
        ("def f(ctx, payload): return payload, ctx", ({"a": 1}, "ctx"), ({"a": 1}, "ctx")),
        ("def f(payload, *, ctx): return payload, ctx", ({"a": 1}, "ctx"), ({"a": 1}, "ctx")),
        ("def f(*, ctx): return ctx", ("ctx",), "ctx"),
        ("def f(a, ctx, b=2): return a, ctx, b", ({"a": 1}, "ctx"), (1, "ctx", 2)),
        ("def f(a, **more): return a, more", ({"a": 1, "b": 2},), (1, {"b": 2})),
    ],
)
def test_a_handler_is_called_with_what_it_asks_for(
    task: TaskDecorator, source: str, called_with: tuple[object, ...], got: object
) -> None:
    assert task(name="f")(function(source)).run(*called_with) == got


@pytest.mark.parametrize(
    ("source", "args", "options", "payload"),
    [
        ("def f(ctx, a, b=2): ...", (1,), {}, {"a": 1}),
        ("def f(a, ctx, b=2): ...", (1, 3), {}, {"a": 1, "b": 3}),
        ("def f(*, a, ctx): ...", (), {"a": 1}, {"a": 1}),
        ("def f(ctx): ...", (), {}, {}),
        ("def f(a, **more): ...", (1,), {"b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}),
    ],
)
def test_args_are_those_that_a_payload_has(
    task: TaskDecorator, source: str, args: tuple[object, ...], options: dict[str, object], payload: object
) -> None:
    assert task(name="f")(function(source)).args(*args, **options) == payload


@pytest.mark.parametrize("signature", ["(a, /, b)", "(a, b, *args)", "(payload, ctx, job: JobContext)"])
def test_a_handler_that_no_job_can_call_is_refused(task: TaskDecorator, registry: Registry, signature: str) -> None:
    assert problem(lambda: task(function(f"\ndef f{signature}: ..."))).startswith(
        "Task 'f' at shapes.py:2 cannot be called: a handler takes the payload as one parameter, or its keys as "
        "several that can be given by name, and, if it wants, `ctx: JobContext`, but its signature is ("
        + signature[1:9]
    )
    assert len(registry) == 0


@pytest.mark.parametrize("signature", ["(self)", "(self, payload)", "(cls, payload, ctx)"])
def test_a_method_is_refused(task: TaskDecorator, signature: str) -> None:
    source = f"class Mailer:\n    def f{signature}: ...\nf = Mailer.f"
    assert problem(lambda: task(function(source))).endswith(f" is {signature}; it must not be a method")


def test_a_static_method_is_a_function_like_any_other(task: TaskDecorator, registry: Registry) -> None:
    class Mailer:
        @task
        @staticmethod
        def send(payload: object) -> object:
            return payload

    assert registry["send"] is Mailer.send
    assert Mailer.send(1) == 1


@pytest.mark.parametrize("source", ["def f(payload):\n    yield 1", "async def f(payload):\n    yield 1"])
def test_a_generator_is_refused(task: TaskDecorator, source: str) -> None:
    assert problem(lambda: task(function(source))) == (
        "Task 'f' at shapes.py:1 is a generator, which would do nothing when called; collect its values inside the task"
    )


def test_a_lambda_needs_a_name(task: TaskDecorator, registry: Registry) -> None:
    nameless = function("f = lambda payload: payload")
    assert problem(lambda: task(nameless)) == (
        "The lambda at shapes.py:1 has no name to call it by; use @task(name=...)"
    )
    task(name="same")(nameless)
    assert registry["same"](1) == 1


@pytest.mark.parametrize(
    ("handler", "shown"),
    [
        (Registry, "<class 'pgtasks.registry.Registry'>"),
        (len, "<built-in function len>"),
        (5, "5"),
        ("send", "'send'; options are given by name, as in @task(name='…')"),
    ],
)
def test_what_is_no_function_is_refused(task: Any, handler: object, shown: str) -> None:
    assert problem(lambda: task(handler)) == f"@task takes a function, not {shown}"


def test_a_partial_function_or_a_bound_method_is_refused(task: Any) -> None:
    assert problem(lambda: task(functools.partial(print, 1))).startswith(
        "@task takes a function, not functools.partial"
    )
    assert problem(lambda: task([].append)).startswith("@task takes a function, not <built-in method append")
    assert problem(lambda: task(Sent().add_spec)).startswith("@task takes a function, not <bound method Sent.add_spec")


# Other decorators


def test_a_function_in_a_wrapper_keeps_its_name_signature_and_place(task: TaskDecorator) -> None:
    def send(payload: object, ctx: JobContext) -> str:
        return f"sent {payload}"

    @functools.wraps(send)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return send(*args, **kwargs) + " in a wrapper"

    wrapped = task(wrapper)
    assert wrapped.name == "send"
    assert (wrapped.takes_payload, wrapped.takes_context) == (True, True)
    assert wrapped.place == f"{__file__}:{send.__code__.co_firstlineno}"
    assert wrapped("x", None) == "sent x in a wrapper"


def test_a_wrapper_without_functools_wraps_gets_the_payload(task: TaskDecorator) -> None:
    @task(name="send")
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert (wrapper.takes_payload, wrapper.takes_context) == (True, False)


def test_an_async_wrapper_of_a_plain_function_is_async(task: TaskDecorator) -> None:
    def send(payload: object) -> None: ...

    @functools.wraps(send)
    async def wrapper(payload: object) -> None:
        send(payload)

    assert task(wrapper).is_async


def test_one_function_may_be_two_tasks(task: TaskDecorator, registry: Registry) -> None:
    @task(name="later")
    @task(name="sooner")
    async def fetch(payload: object) -> None: ...

    assert registry["later"] is fetch
    assert registry["sooner"].handler is registry["later"].handler
    assert fetch.is_async


# What a task sends


@pytest.fixture
def send(task: TaskDecorator) -> Task[Any, ..., Any]:
    @task(queue="mail", priority=1, max_attempts=2, flags=["a"])
    def send(payload: object) -> None: ...

    return send


def test_a_job_gets_the_options_of_its_task(send: Task[Any, ..., Any], sent: Sent) -> None:
    send.defer({"to": "ada"})
    spec = JobSpec(task="send", payload={"to": "ada"}, queue="mail", priority=1, max_attempts=2, flags=("a",))
    assert sent.calls == [([spec], None)]


def test_the_options_of_a_call_win_over_those_of_the_task(send: Task[Any, ..., Any], sent: Sent) -> None:
    send.defer(None, queue="other", priority=0, max_attempts=3, flags=[], job_key="k", job_key_mode="replace", delay=5)
    spec = JobSpec(
        task="send",
        queue="other",
        priority=0,
        max_attempts=3,
        flags=(),
        job_key="k",
        job_key_mode="replace",
        delay=5,
    )
    assert sent.calls == [([spec], None)]


def test_defer_many_hands_on_what_it_is_given_and_what_holds_for_payloads(
    send: Task[Any, ..., Any], sent: Sent
) -> None:
    jobs = iter([1, send.spec(2, job_key="k"), None])
    send.defer_many(jobs, notify=False, returning=False)
    assert sent.calls == [((jobs, send.spec()), None)]
    assert sent.options == {"notify": False, "returning": False}


@pytest.mark.parametrize("payload", [{"to": "ada"}, "ada", b"ada"])
def test_defer_many_refuses_a_single_payload(send: Task[Any, ..., Any], sent: Sent, payload: Any) -> None:
    with pytest.raises(JobOptionError) as caught:
        send.defer_many(payload)
    assert str(caught.value) == (
        f"defer_many of task 'send' takes a list of payloads, not one {type(payload).__name__}; use defer"
    )
    assert sent.calls == []


def test_an_unknown_option_is_refused_by_what_it_may_have_been_meant_to_be(task: TaskDecorator, sent: Sent) -> None:
    @task
    def greet(*, name: str) -> None: ...

    for options, hint in (
        ({"name": "Ada"}, "arguments of the handler go into the payload: defer(task.args(…))"),
        ({"countdown": 5}, "did you mean 'delay'?"),
        ({"expires": 5}, "it has "),
    ):
        with pytest.raises(JobOptionError) as caught:
            greet.defer({"name": "Ada"}, **options)
        assert f"has no option {next(iter(options))!r}; {hint}" in str(caught.value)
    assert sent.calls == []


def test_an_option_that_cannot_be_stored_is_refused_before_anything_is_sent(
    send: Task[Any, ..., Any], sent: Sent
) -> None:
    with pytest.raises(JobOptionError):
        send.defer(None, priority=40000)
    assert sent.calls == []


def test_who_calls_what_other_frameworks_have_is_shown_the_way(task: TaskDecorator) -> None:
    @task
    def handle(mail: dict[str, Any]) -> None: ...

    called: Any = handle
    with pytest.raises(AttributeError, match=r"'handle' has no attribute 'delay'; add a job by defer\(payload\)"):
        called.delay({})
