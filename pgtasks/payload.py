"""What a handler's annotations say of its payload: how it is checked, written as JSON, and read again.

pydantic does the checking. What it is not asked about is a payload without annotation, or a plain `dict` or `list`:
these are only looked at, so that they cost nothing more than JSON does.

A payload is checked twice. Who adds a job from Python hears of a mistake at once, extra keys included, since these are
misspelt ones for the most part. A worker takes what others have stored: keys that it does not know are left out, so
that those who add jobs may be ahead of the workers in a deployment.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import typing_extensions
from pydantic import BaseModel, ValidationError

from pgtasks import codec
from pgtasks.errors import PayloadError, did_you_mean
from pgtasks.payload_models import (
    any_part,
    decides_on_extras,
    difference,
    has_free_keys,
    is_ambiguous,
    is_strict,
    make_model,
    make_typed_dict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AnyType = TypeVar("AnyType", bound="PayloadType")
_JSON: Final = frozenset((str, int, float, bool, type(None), dict, list, tuple))
_MOST_PROBLEMS: Final = 5
"""How many mistakes one message tells."""


class PayloadType:
    """The type of a task's payloads.

    Args:
        task: the task's name, for messages.
        plain: the type that payloads have to be of, where no more is asked; None: any.
        model: makes what checks payloads instead, a model with the field `payload`, when it is first needed:
            annotations may name what is defined later.
        keys: the names of a handler's parameters, where each gets a key of its own.
        typed: those of them whose values are more than JSON has; all others are taken as they are.
    """

    what = "payload"
    """What of a task's it is the type of, for messages."""

    def __init__(
        self,
        task: str,
        plain: type | None = None,
        model: Callable[[], type[BaseModel]] | None = None,
        keys: tuple[str, ...] = (),
        typed: frozenset[str] | None = None,
    ) -> None:
        self._task = task
        self._plain = plain
        self._make_model = model
        self._keys = keys
        self._typed = typed
        self.parameter: inspect.Parameter | None = None
        """That of a handler's which gets all of the payload."""
        self._has_come_back = False
        """Whether what was stored of some payload has been read again."""
        self.is_any = model is None and plain is None
        """Whether any JSON will do."""

    @functools.cached_property
    def _model(self) -> type[BaseModel]:
        assert self._make_model is not None
        return self._make_model()

    @functools.cached_property
    def _extra(self) -> Literal["forbid"] | None:
        """What is done about extra keys when a job is added, unless a type says so itself."""
        return None if self._is(decides_on_extras) else "forbid"

    @functools.cached_property
    def _is_ambiguous(self) -> bool:
        return self._is(is_ambiguous)

    @functools.cached_property
    def _has_free_keys(self) -> bool:
        return self._is(has_free_keys)

    @functools.cached_property
    def _takes_null(self) -> bool:
        if self._make_model is None:
            return self._plain is None
        try:
            self._model.model_validate({"payload": None})
        except ValidationError:
            return False
        return True

    @property
    def _fields(self) -> Iterable[str]:
        """The keys of an object that one parameter gets whole."""
        kind = self._model.model_fields["payload"].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return [field.alias or name for name, field in kind.model_fields.items()]
        known: Iterable[str] = getattr(kind, "__annotations__", ())
        return known

    def _is(self, fact: Callable[[Any], bool]) -> bool:
        return any_part(self._model.__pydantic_core_schema__, fact)

    def check(self) -> None:
        """Raise `TaskDefinitionError` if payloads of this type cannot be checked."""
        if self._make_model is not None:
            _ = self._model

    def dump(self, payload: Any) -> Any:
        """Check a payload that is about to be added.

        Returns:
            What JSON is to be made of; None for an empty object.

        Raises:
            PayloadError: it is not what the handler takes; the message names each field and the type of its value.
        """
        if self._make_model is None:
            if self._plain is not None:
                self._check_plain({} if payload is None else payload)
            return payload
        if payload is None:
            return codec.NULL if self._takes_null else self._written({}, payload)
        return self._written(payload, payload)

    def _written(self, value: Any, given: Any) -> Any:
        """Check a value with the model; returns what JSON is to be made of. Messages are about what was given."""
        try:
            checked = self._model.model_validate({"payload": value}, extra=self._extra)
        except ValidationError as error:
            raise PayloadError(self._problems(error, given)) from None
        try:
            dumped = checked.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)["payload"]
        except (ValueError, TypeError, AttributeError) as error:
            raise PayloadError(f"{self._cannot_take} it cannot be written as JSON: {error}") from None
        if self._typed is not None:
            dumped.update(self._without_typed(value))
        # The second is what pydantic makes of a lone surrogate in a key.
        is_in_doubt = self._is_ambiguous or (self._has_free_keys and "\ufffd" in str(dumped))
        if is_in_doubt or not self._has_come_back or not _is_plain(value):
            self._expect_back(checked.payload, dumped, is_in_doubt=is_in_doubt)  # type: ignore[attr-defined]
        return dumped

    def _expect_back(self, payload: Any, dumped: Any, *, is_in_doubt: bool) -> None:
        """Complain if a handler would not get from the database what `defer` was given.

        Args:
            payload: what was given, checked.
            dumped: what is to be stored of it.
            is_in_doubt: whether it may be read as something else.

        Raises:
            PayloadError: it would not; the message tells of what.
        """
        try:
            back = self._read(codec.encode(dumped))
        except ValidationError as error:
            problems = self._problems(error).removeprefix(self._cannot_take)
            raise PayloadError(f"{self._cannot_take} what is stored of it could not be read again:{problems}") from None
        self._has_come_back = True
        if is_in_doubt:
            if self._typed is not None:
                back.update(self._without_typed(payload))
            if (found := difference(payload, back)) is not None:
                path, problem = found
                raise PayloadError(f"{self._cannot_take} {_path(path) or 'it'} {problem}")

    def _without_typed(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in payload.items() if key not in (self._typed or ())}

    def load(self, text: str | bytes, upgrade: Callable[[Any], Any] | None = None) -> Any:
        """Read and check a payload that was stored.

        Args:
            text: the JSON.
            upgrade: makes of what is stored what the handler takes today.

        Raises:
            PayloadError: it is not JSON that Python can hold, or not what the handler takes.
        """
        if upgrade is not None:
            text = self._upgraded(text, upgrade)
        if self._make_model is None:
            value = codec.decode(text)
            self._check_plain(value)
            return value
        try:
            return self._read(text)
        except ValidationError as error:
            raise PayloadError(self._problems(error)) from None

    def _upgraded(self, text: str | bytes, upgrade: Callable[[Any], Any]) -> str:
        what = f"what upgrades payloads of task {self._task!r} returned"
        made = upgrade(codec.decode(text))
        if made is None and not self._takes_null:
            raise PayloadError(f"{what} None: it has to return the payload, also one that is as it should be")
        return codec.encode(made, what)

    def _read(self, text: str | bytes) -> Any:
        """Read JSON, with pydantic's parser if that can: it reads numbers as floats, and no lone surrogates."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        needs_exact_numbers = codec.needs_exact_numbers(raw)
        if not needs_exact_numbers:
            try:
                return self._validated_json(raw)
            except ValidationError as error:
                if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
                    raise
        value = codec.decode(text)
        if needs_exact_numbers and self._is(is_strict):
            # It takes text for a Decimal or a datetime from JSON alone.
            return self._validated_json(json.dumps(value, default=str).encode())
        return self._model.model_validate({"payload": value}).payload  # type: ignore[attr-defined]

    def _validated_json(self, raw: bytes) -> Any:
        return self._model.model_validate_json(b'{"payload":%s}' % raw).payload  # type: ignore[attr-defined]

    def _check_plain(self, payload: Any) -> None:
        if self._plain is not None and not isinstance(payload, self._plain):
            raise PayloadError(
                f"{self._cannot_take} it should be a {self._plain.__name__}{_not_a(payload)}{self._as_a_key(payload)}"
            )

    @property
    def _cannot_take(self) -> str:
        return f"task {self._task!r} cannot take this payload:"

    def _problems(self, error: ValidationError, given: Any = ...) -> str:
        """Return what is the matter, without any value: payloads do not belong into logs.

        Args:
            error: what pydantic says.
            given: what `defer` was given, where that is known.
        """
        details = error.errors(include_url=False)
        problems = [self._problem(detail, given) for detail in details[:_MOST_PROBLEMS]]
        if len(details) > _MOST_PROBLEMS:
            problems.append(f"and {len(details) - _MOST_PROBLEMS} more")
        return f"{self._cannot_take} {'; '.join(problems)}"

    def _problem(self, detail: Any, given: Any) -> str:
        path, kind = detail["loc"][1:], detail["type"]
        where = _path(path)
        if kind == "missing":
            return f"{where} is missing"
        if kind in ("extra_forbidden", "unexpected_keyword_argument"):
            hint = ""
            if len(path) == 1:
                hint = self._as_a_key({path[0]: ...}) or did_you_mean(str(path[0]), self._keys or self._fields)
            return f"{where} is not one of its keys{hint}"
        tag: str = detail.get("ctx", {}).get("discriminator", "")
        if kind == "union_tag_not_found" and tag.startswith("'"):  # not where a function finds it out
            return f"{_path((*path, tag[1:-1]))} is missing"
        if kind == "union_tag_invalid":  # its message has the value
            where = _path((*path, tag.strip("'")))
            return f"{where} should be one of {detail['ctx']['expected_tags']}"
        message = detail["msg"].partition("\n")[0].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if not message.startswith("Input "):
            return f"{where}: {message}" if where else message
        if kind.endswith(("_type", "_parsing", "_required")) or kind == "is_instance_of":
            message += _not_a(detail["input"] if path or given is not None else given)
            message += "" if path else self._as_a_key(detail["input"])
        return f"{where or 'it'}{message.removeprefix('Input')}"

    def _as_a_key(self, payload: object) -> str:
        """Return what to do if a payload is meant to have a key for a parameter that gets all of it."""
        whole = self.parameter
        if whole is None or not isinstance(payload, Mapping):
            return ""
        if not (whole.name in payload or (whole.default is not whole.empty and not payload)):
            return ""
        return (
            f"; its parameter {whole.name!r} takes all of the payload: declare it behind a star, (*, {whole.name}), "
            f"if it is to be a key, or to have a default"
        )


class NoPayload(PayloadType):
    """The type of the payloads of a handler that takes none, nor the context, which has it: there is but the empty one.

    What others have stored is not looked at.
    """

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self.is_any = False

    def dump(self, payload: Any) -> Any:
        """Return a payload that is about to be added; raises `PayloadError` if it says something."""
        if payload is None or payload == {}:
            return payload
        raise PayloadError(f"{self._cannot_take} its handler takes none")


def _is_plain(value: Any) -> bool:
    """Whether a payload, as far as can be seen quickly, has no instance of a class in which nobody has looked."""
    kind = type(value)
    items = value.values() if kind is dict else value if kind is list else (value,)
    return all(issubclass(each, BaseModel) for each in set(map(type, items)) - _JSON)


def whole_type(task: str, place: str, annotation: Any, hint: Callable[[], Any], kind: type[AnyType]) -> AnyType:
    """Return the type of payloads that one parameter gets whole.

    Args:
        task: the task's name.
        place: where its handler is defined, for messages.
        annotation: the parameter's annotation as it stands there.
        hint: returns the annotation with names resolved.
        kind: the class of what is returned.
    """
    text = _text(annotation)
    if text in ("Any", "object"):
        return kind(task)
    if text in _PLAIN:
        return kind(task, _PLAIN[text])
    return kind(task, model=lambda: make_model(task, place, hint(), kind.what))


_PLAIN: Final[dict[str, type]] = {
    "dict": dict,
    "dict[str,Any]": dict,
    "dict[str,object]": dict,
    "list": list,
    "list[Any]": list,
    "list[object]": list,
}
"""Annotations, as they stand in a source, for which a look at the type is enough."""


def keys_type(
    task: str, place: str, parameters: Sequence[inspect.Parameter], hints: Callable[[], Mapping[str, Any]]
) -> PayloadType:
    """Return the type of payloads whose keys are a handler's parameters; `**` takes any further ones."""

    def make() -> type[BaseModel]:
        known = hints()
        fields = {
            each.name: known.get(each.name, Any)
            if each.default is each.empty
            else typing_extensions.NotRequired[known.get(each.name, Any)]
            for each in parameters
            if each.kind is not each.VAR_KEYWORD
        }
        return make_model(task, place, make_typed_dict(task, fields, open_ended=len(fields) < len(parameters)))

    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    typed = frozenset(each.name for each in named if _text(each.annotation) not in ("Any", "object", *_PLAIN))
    return PayloadType(task, model=make, keys=tuple(each.name for each in named), typed=typed)


def _text(annotation: Any) -> str:
    """Return an annotation as it would stand in a source; the missing one is `Any`."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") or str(annotation)
    if isinstance(annotation, types.GenericAlias):
        text = str(annotation)
    return text.replace("typing.", "").replace(" ", "")


def _path(keys: Sequence[Any]) -> str:
    """Return where in a payload something is: `'to'`, `'items'[2]['price']`, `key 'x' of 'prices'`."""
    path = ""
    if len(keys) > 1 and keys[-1] == "[key]":
        *above, key, _ = keys
        return f"key {key!r} of {_path(above)}" if above else f"key {key!r}"
    for key in keys:
        path += f"[{key!r}]" if path or isinstance(key, int) else repr(key)
    return path


def _not_a(value: Any) -> str:
    return f", not {type(value).__name__}"
