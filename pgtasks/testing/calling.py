"""Calling a plugin's hooks as pgtasks calls them, and looking over a plugin before anybody loads it.

What a worker would keep to itself is raised here: the error of an isolated hook, and an answer that is no good.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pgtasks import hookspecs
from pgtasks.app import App
from pgtasks.errors import PluginError, did_you_mean
from pgtasks.hookspecs import HOOKS, PROJECT, Kind
from pgtasks.plugins import Role
from pgtasks.registry import Registry
from pgtasks.testing.answers import reader_of
from pgtasks.testing.dispatch import StrictDispatch, StrictLoopDispatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from pgtasks.hookspecs import Hook
    from pgtasks.plugins import PluginInfo

_NOWHERE: Final = "host=give-call_hook-an-app-with-a-database.invalid"
"""The database of an App that is made for a plugin alone."""


def call_hook(plugin: Any, hook: str, /, **given: Any) -> Any:
    """Call a hook of a plugin as pgtasks does, and return what comes of it.

    Args:
        plugin: a plugin, as an App takes it; or an App, whose plugins are then called all. A plugin that needs a
            database, or settings, needs an App that has them.
        hook: the name of the hook.
        given: all of the hook's arguments; `app` may be left out.

    Returns:
        What the kind of hook is for. *collect*: the answers of all implementations, in a list; *decide*: the first
        answer; *change*: the value as the last one leaves it; *wrap*: a context manager; *observe*: None, when all
        have been told.

    Raises:
        PluginError: there is no such hook, no plugin implements it, its arguments are others, or its answer is not
            what the contract says.
        Exception: whatever an implementation raises.

    Examples:
        >>> from pgtasks import Snooze, hookimpl
        >>> from pgtasks.testing import make_job
        >>> class Shop:
        ...     @hookimpl
        ...     def retry_decision(self, exception):
        ...         return Snooze(60) if isinstance(exception, ConnectionError) else None
        >>> call_hook(Shop(), "retry_decision", job=make_job("charge"), exception=ConnectionError(), error="")
        Snooze(delay=60)
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise PluginError(f"an event loop runs here: write `await call_hook_async(…, {hook!r}, …)`")
    app, spec = _prepare(plugin, hook, given)
    if not spec.asynchronous:
        return _call(app, spec, {"app": app, **given})
    return asyncio.run(_call_and_close(app, spec, {"app": app, **given}))


async def call_hook_async(plugin: Any, hook: str, /, **given: Any) -> Any:
    """Do what `call_hook` does, from asyncio code."""
    app, spec = _prepare(plugin, hook, given)
    if not spec.asynchronous:
        return _call(app, spec, {"app": app, **given})
    return await _call_async(app, spec, {"app": app, **given})


def check_plugin(plugin: Any) -> PluginInfo:
    """Register a plugin, and return what pgtasks then knows of it: its name and its hooks.

    Args:
        plugin: as an App takes it: a module, an object or a class; or the name of one that is installed.

    Raises:
        PluginError: it cannot be loaded; it implements what is no hook, or a hook with arguments that this has not;
            or one of its functions is named like a hook and not marked with `@hookimpl`.

    Examples:
        >>> from pgtasks import hookimpl
        >>> class Shop:
        ...     @hookimpl
        ...     def job_failed(self, end): ...
        >>> check_plugin(Shop).hooks
        ('job_failed',)
    """
    app = _app_for(plugin)
    infos = list(app.plugins)
    for name in HOOKS:
        attribute = None if isinstance(plugin, str) else inspect.getattr_static(plugin, name, None)
        function = getattr(attribute, "__func__", attribute)  # of a static method
        if inspect.isfunction(function) and not hasattr(function, f"{PROJECT}_impl"):
            raise PluginError(
                f"plugin {infos[0].name!r}: {name!r} is named like a hook, but is not marked with @hookimpl, so that "
                "it is never called"
            )
    return infos[0]


def _app_for(plugin: Any) -> App:
    return App(registry=Registry(), plugins=[plugin], autoload_plugins=False, database_url=_NOWHERE)


def _prepare(plugin: Any, hook: str, given: Mapping[str, Any]) -> tuple[App, Hook]:
    """Check a call, and have plugins configured as they are before any other hook."""
    if hook not in HOOKS:
        raise PluginError(f"{hook!r} is no hook{did_you_mean(hook, HOOKS)}")
    arguments = _arguments_of(hook)
    for name in given:
        if name not in arguments:
            raise PluginError(
                f"hook {hook!r} has no argument {name!r}{did_you_mean(name, arguments)}; "
                f"it has: {', '.join(arguments) or 'none'}"
            )
    if lacking := [name for name in arguments if name not in given and name != "app"]:
        raise PluginError(f"hook {hook!r} is called with {', '.join(arguments)}; give {', '.join(lacking)} too")
    spec = HOOKS[hook]
    if isinstance(plugin, App):
        app = plugin
    else:
        app = _app_for(plugin)
        app.assume(Role.PRODUCER if Role.PRODUCER in spec.roles else spec.roles[0])
    if not app.hooks.has(hook):
        names = ", ".join(f"{info.name} ({', '.join(info.hooks)})" for info in app.plugins) or "there is none"
        raise PluginError(f"no plugin implements {hook!r}; plugins and their hooks: {names}")
    return app, spec


def _arguments_of(hook: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(hookspecs, hook)).parameters)


def _call(app: App, spec: Hook, given: dict[str, Any]) -> Any:
    dispatch = StrictDispatch(app.plugins.loaded.implementations())
    if spec.kind is Kind.WRAP:
        return _wrapped(dispatch, spec.name, given)
    answer: Any = None
    match spec.kind:
        case Kind.OBSERVE if spec.isolated:
            dispatch.tell(spec.name, **given)
            dispatch.flush_all()
        case Kind.OBSERVE:
            dispatch.collect(spec.name, lambda answer: answer, **given)
        case Kind.COLLECT:
            answer = [one for _, one in dispatch.collect(spec.name, reader_of(spec.name), **given)]
        case Kind.DECIDE:
            answer = dispatch.decide(spec.name, reader_of(spec.name), **given)
        case Kind.CHANGE:
            argument = _arguments_of(spec.name)[0]
            value = given.pop(argument)
            answer = dispatch.change(spec.name, value, reader_of(spec.name), argument=argument, **given)
    dispatch.check()
    return answer


async def _call_async(app: App, spec: Hook, given: dict[str, Any]) -> Any:
    strict = StrictDispatch(app.plugins.loaded.implementations())
    dispatch = StrictLoopDispatch(strict, limit=app.settings.hook_timeout)
    answer: Any = None
    match spec.kind:
        case Kind.OBSERVE:
            dispatch.tell(spec.name, **given)
            await asyncio.to_thread(dispatch.flush_all)
        case Kind.COLLECT:
            answers = await dispatch.collect_async(spec.name, reader_of(spec.name), **given)
            answer = [one for _, one in answers if one is not None]
        case Kind.DECIDE:
            answer = await dispatch.decide_async(spec.name, reader_of(spec.name), **given)
        case Kind.CHANGE:
            argument = _arguments_of(spec.name)[0]
            value = given.pop(argument)
            answer = await dispatch.change_async(spec.name, value, reader_of(spec.name), argument=argument, **given)
    dispatch.check()
    return answer


async def _call_and_close(app: App, spec: Hook, given: dict[str, Any]) -> Any:
    try:
        return await _call_async(app, spec, given)
    finally:
        await app.aclose()  # its connections belong to this event loop, which ends


def _wrapped(dispatch: StrictDispatch, hook: str, given: Mapping[str, Any]) -> AbstractContextManager[None]:
    @contextmanager
    def wrapped() -> Iterator[None]:
        try:
            with dispatch.wrap(hook, **given):
                dispatch.check()
                yield
        finally:
            dispatch.check()

    return wrapped()
