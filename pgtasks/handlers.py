"""What a handler's signature says: which of its parameters get the payload, and which one the context."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from typing import TYPE_CHECKING, Any, Final

from pgtasks.errors import PayloadError, TaskDefinitionError
from pgtasks.payload import NoPayload, PayloadType, keys_type, whole_type
from pgtasks.payload_models import missing_name
from pgtasks.results import result_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
STORED: Final = "takes_stored_payload"
"""Attribute of a handler of ours that is given the context alone and looks at no payload but the stored text."""
CONTEXT_TYPE: Final = "JobContext"
"""Name of the class that marks a handler's parameter as the one for the context."""


class Handler:
    """A function that runs as a task, and how it is called.

    Args:
        function: the function.
        task: name of the task.
        stores_result: whether what it returns is stored.

    Raises:
        TaskDefinitionError: no job could call it.
    """

    def __init__(self, function: Callable[..., Any], task: str, *, stores_result: bool = False) -> None:
        inner = inspect.unwrap(function)
        self.function = function
        self.file: str = inner.__code__.co_filename
        self.place: str = f"{self.file}:{inner.__code__.co_firstlineno}"
        self.execution: object = inner.__globals__.get("__spec__")
        """Which run of its file has made the function."""
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self._task = task
        self._inner = inner
        self._locals = _enclosing_locals(inner)
        self._annotations: Mapping[str, Any] = getattr(inner, "__annotations__", {})
        parameters = list(inspect.signature(function).parameters.values())
        contexts = [each for each in parameters if _is_context(each, inner.__globals__)]
        others = [each for each in parameters if each not in contexts]
        if len(contexts) > 1 or (parameters and parameters[0].name in ("self", "cls")):
            raise self._impossible()
        self._context = contexts[0] if contexts else None
        self._others = others
        self.takes_context: bool = self._context is not None
        self.takes_payload: bool = bool(others)
        """Whether it is called with anything of the payload."""
        self.reads_payload: bool = (self.takes_payload or self.takes_context) and not hasattr(inner, STORED)
        """Whether a payload that Python cannot hold is of no use to it."""
        self.by_keys: bool = False
        """Whether the payload's keys are its parameters."""
        if not others:
            self.payload = PayloadType(task) if contexts else NoPayload(task)
        elif _is_whole(others):
            first = others[0]
            self.payload = whole_type(
                task,
                self.place,
                first.annotation,
                lambda: self._hints([first.name])[first.name],
                PayloadType,
            )
            self.payload.parameter = first
        else:
            if any(each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL) for each in others):
                raise self._impossible()
            self.by_keys = True
            self.payload = keys_type(task, self.place, others, lambda: self._hints([each.name for each in others]))
        returns = self._annotations.get("return", inspect.Parameter.empty)
        self.result = result_type(task, self.place, returns, lambda: self._hints(["return"])["return"])
        """The type of what it returns, for tasks that store that."""
        self.run: Callable[..., Any] = self._runner(parameters)
        """Calls it with the payload, if it takes it, and with the context, if it takes that."""
        if self._locals is not None:
            self._resolve_early(stores_result=stores_result)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the payload with which it is called with these arguments; the context is none of them.

        Raises:
            PayloadError: it does not take them, or its payload is not an object of its parameters.
        """
        if self.takes_payload and not self.by_keys:
            raise PayloadError(f"task {self._task!r} takes its payload as one argument: give that to defer as it is")
        try:
            bound = inspect.Signature(self._others).bind(*args, **kwargs)
        except TypeError as error:
            raise PayloadError(f"task {self._task!r} cannot take these arguments: {error}") from None
        payload = dict(bound.arguments)
        for each in self._others:
            if each.kind is each.VAR_KEYWORD:
                payload.update(payload.pop(each.name, {}))
        return payload

    def _runner(self, parameters: Sequence[inspect.Parameter]) -> Callable[..., Any]:
        function, context = self.function, self._context
        if self.by_keys:
            if context is None:
                return lambda payload: function(**payload)
            return lambda payload, ctx: function(**{**payload, context.name: ctx})
        if context is None or (context.kind is not context.KEYWORD_ONLY and context is parameters[self.takes_payload]):
            return function
        if self.takes_payload and context.kind is not context.KEYWORD_ONLY and context is parameters[0]:
            return lambda payload, ctx: function(ctx, payload)
        if self.takes_payload:
            return lambda payload, ctx: function(payload, **{context.name: ctx})
        return lambda ctx: function(**{context.name: ctx})

    def _hints(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the annotations of these parameters, with names resolved."""

        class Holder: ...

        Holder.__annotations__ = {name: self._annotations[name] for name in names if name in self._annotations}
        try:
            return typing.get_type_hints(Holder, self._inner.__globals__, self._locals, include_extras=True)
        except NameError as error:
            raise missing_name(f"Task {self._task!r} at {self.place}: its annotations name", error.name) from None
        except Exception as error:  # noqa: BLE001 - an annotation may be any expression
            raise TaskDefinitionError(
                f"Task {self._task!r} at {self.place}: its annotations cannot be read: {type(error).__name__}: {error}"
            ) from None

    def _resolve_early(self, *, stores_result: bool) -> None:
        """Resolve what names something local, which nobody can later; what is not there yet is for later."""
        try:
            self.payload.check()
            if stores_result:
                self.result.check()
        except TaskDefinitionError as error:
            if error.missing is None:
                raise
        finally:
            self._locals = None

    def _impossible(self) -> TaskDefinitionError:
        parameters = list(inspect.signature(self.function).parameters.values())
        is_method = bool(parameters) and parameters[0].name in ("self", "cls")
        hint = "; it must not be a method" if is_method else ""
        return TaskDefinitionError(
            f"Task {self._task!r} at {self.place} cannot be called: a handler takes the payload as one parameter, or "
            f"its keys as several that can be given by name, and, if it wants, `ctx: {CONTEXT_TYPE}`, "
            f"but its signature is {inspect.signature(self.function)}{hint}"
        )


def _is_whole(parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether one parameter gets the whole payload: the only one, or whatever `*args` of a wrapper stands for."""
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if any(each.kind is each.VAR_POSITIONAL for each in parameters) or (named and named[0].kind is POSITIONAL_ONLY):
        return len(named) <= 1
    return len(parameters) == len(named) == 1 and named[0].kind is not named[0].KEYWORD_ONLY


def _is_context(parameter: inspect.Parameter, names: Mapping[str, Any]) -> bool:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return parameter.name in ("ctx", "context")
    if isinstance(annotation, str):
        annotation = names.get(annotation, annotation)  # the class may be imported under another name
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.search(rf"\b{CONTEXT_TYPE}\b", text) is not None


def _enclosing_locals(function: Any) -> Mapping[str, Any] | None:
    """Return the variables of the functions that are just defining a nested one, which its annotations may name."""
    *outer, _ = function.__qualname__.split(".<locals>.")
    if not outer:
        return None
    around = {".<locals>.".join(outer[: depth + 1]) for depth in range(len(outer))}
    found: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the way that typing itself goes
    while frame is not None:
        if frame.f_globals is function.__globals__ and frame.f_code.co_qualname in around:
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found
