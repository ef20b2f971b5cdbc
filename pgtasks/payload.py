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
import operator
import types
import typing
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import typing_extensions
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    ValidationError,
    create_model,
)

from pgtasks import codec
from pgtasks.errors import PayloadError, TaskDefinitionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_CONFIG: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
"""For all but models and what has a configuration of its own: bytes as base64; NaN is not made a null in silence."""
AnyType = TypeVar("AnyType", bound="PayloadType")
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
    """

    def __init__(
        self,
        task: str,
        plain: type | None = None,
        model: Callable[[], type[BaseModel]] | None = None,
        keys: tuple[str, ...] | None = None,
    ) -> None:
        self._task = task
        self._plain = plain
        self._make_model = model
        self._keys = keys
        self.is_any = model is None and plain is None
        """Whether any JSON will do."""

    @functools.cached_property
    def _model(self) -> type[BaseModel]:
        assert self._make_model is not None
        return self._make_model()

    @functools.cached_property
    def _extra(self) -> Literal["forbid"] | None:
        """What is done about extra keys when a job is added, unless a type says so itself."""
        return None if _decides_on_extras(self._model.__pydantic_core_schema__) else "forbid"

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
            if payload is not None:
                self._check_plain(payload)
            return payload
        try:
            return self._written({} if payload is None else payload)
        except PayloadError:
            if payload is None and self._takes_null():
                return codec.NULL
            raise

    def _written(self, value: Any) -> Any:
        """Check a value with the model; returns what JSON is to be made of."""
        try:
            checked = self._model.model_validate({"payload": value}, extra=self._extra)
        except ValidationError as error:
            raise PayloadError(self._problems(error)) from None
        try:
            return checked.model_dump(mode="json", by_alias=True, warnings=False)["payload"]
        except (ValueError, TypeError) as error:
            raise PayloadError(f"{self._cannot_take} it cannot be written as JSON: {error}") from None

    def load(self, text: str | bytes, upgrade: Callable[[Any], Any] | None = None) -> Any:
        """Read and check a payload that was stored.

        Args:
            text: the JSON.
            upgrade: makes of what is stored what the handler takes today.

        Raises:
            PayloadError: it is not JSON that Python can hold, or not what the handler takes.
        """
        if upgrade is not None:
            text = codec.encode(upgrade(codec.decode(text)), f"what upgrades payloads of task {self._task!r} returned")
        if self._make_model is None:
            value = codec.decode(text)
            self._check_plain(value)
            return value
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if codec.needs_exact_numbers(raw):
            # pydantic reads numbers with a fraction as floats; as text they reach a Decimal with all their digits.
            raw = json.dumps(codec.decode(raw), default=str).encode()
        try:
            return self._model.model_validate_json(b'{"payload":%s}' % raw).payload  # type: ignore[attr-defined]
        except ValidationError as error:
            if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
                return self._load_what_python_takes(text)
            raise PayloadError(self._problems(error)) from None

    def _load_what_python_takes(self, text: str | bytes) -> Any:
        """Read JSON that pydantic refuses: it has lone surrogates, or else nobody can read it."""
        try:
            return self._model.model_validate({"payload": codec.decode(text)}).payload  # type: ignore[attr-defined]
        except ValidationError as error:
            raise PayloadError(self._problems(error)) from None

    def _check_plain(self, payload: Any) -> None:
        if self._plain is not None and not isinstance(payload, self._plain):
            raise PayloadError(f"{self._cannot_take} it should be a {self._plain.__name__}{_not_a(payload)}")

    def _takes_null(self) -> bool:
        try:
            self._model.model_validate({"payload": None})
        except ValidationError:
            return False
        return True

    @property
    def _cannot_take(self) -> str:
        return f"task {self._task!r} cannot take this payload:"

    def _problems(self, error: ValidationError) -> str:
        """Return what is the matter, without any value: payloads do not belong into logs."""
        details = error.errors(include_url=False)
        problems = [self._problem(detail) for detail in details[:_MOST_PROBLEMS]]
        if len(details) > _MOST_PROBLEMS:
            problems.append(f"and {len(details) - _MOST_PROBLEMS} more")
        return f"{self._cannot_take} {'; '.join(problems)}"

    def _problem(self, detail: Any) -> str:
        path = detail["loc"][1:]
        where = _path(path)
        match detail["type"]:
            case "missing" | "missing_argument":
                return f"{where} is missing"
            case "extra_forbidden" | "unexpected_keyword_argument":
                hint = did_you_mean(str(path[-1]), self._keys or ()) if len(path) == 1 else ""
                return f"{where} is not one of its keys{hint}"
        what = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
        return f"{where} {what}{_not_a(detail['input'])}" if where else f"it {what}{_not_a(detail['input'])}"


def whole_type(task: str, place: str, annotation: Any, hint: Callable[[], Any], kind: type[AnyType]) -> AnyType:
    """Return the type of payloads that one parameter gets whole.

    Args:
        task: the task's name.
        place: where its handler is defined, for messages.
        annotation: the parameter's annotation as it stands there.
        hint: returns the annotation with names resolved.
        kind: the class of what is returned.
    """
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") or str(annotation)
    if isinstance(annotation, types.GenericAlias):
        text = str(annotation)
    text = text.replace("typing.", "").replace(" ", "")
    if annotation is inspect.Parameter.empty or text in ("Any", "object"):
        return kind(task)
    if text in _PLAIN:
        return kind(task, _PLAIN[text])
    return kind(task, model=lambda: _model(task, place, hint()))


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
        return _model(task, place, _typed_dict(task, fields, open_ended=len(fields) < len(parameters)))

    names = tuple(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)
    return PayloadType(task, model=make, keys=names)


def _model(task: str, place: str, hint: Any) -> type[BaseModel]:
    try:
        return create_model("Payload", __config__=_CONFIG, payload=(_renewed(hint), ...))
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        problem = str(error).splitlines()[0]
        raise TaskDefinitionError(f"Task {task!r} at {place}: its payload cannot be checked: {problem}") from None


def _typed_dict(name: str, fields: Mapping[str, Any], *, open_ended: bool = False) -> Any:
    make: Any = typing_extensions.TypedDict
    made = make(name, {key: _renewed(hint) for key, hint in fields.items()})
    made.__pydantic_config__ = ConfigDict(**_CONFIG, extra="allow") if open_ended else _CONFIG
    return made


def _renewed(hint: Any) -> Any:
    """Return an annotation with each TypedDict made anew: as pydantic takes it before Python 3.12, with our bytes."""
    if typing_extensions.is_typeddict(hint):
        if hasattr(hint, "__pydantic_config__"):
            return hint
        hints = typing_extensions.get_type_hints(hint, include_extras=True)
        optional = hint.__optional_keys__
        bare = {key: _without_presence(each) for key, each in hints.items()}
        fields = {key: typing_extensions.NotRequired[each] if key in optional else each for key, each in bare.items()}
        return _typed_dict(hint.__name__, fields)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is Literal:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(_renewed(arguments[0]), *arguments[1:])]
    renewed = tuple(_renewed(each) for each in arguments)
    if all(map(operator.is_, renewed, arguments)):
        return hint
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, renewed)
    return origin[renewed[0] if len(renewed) == 1 else renewed]


def _without_presence(hint: Any) -> Any:
    while typing.get_origin(hint) in (typing_extensions.Required, typing_extensions.NotRequired):
        (hint,) = typing.get_args(hint)
    return hint


def _decides_on_extras(schema: Any) -> bool:
    """Whether any type in a schema says itself what is done about extra keys."""
    if isinstance(schema, dict):
        config = schema.get("config")
        says = isinstance(config, dict) and "extra_fields_behavior" in config
        return says or any(map(_decides_on_extras, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_decides_on_extras, schema))


def _path(keys: Iterable[int | str]) -> str:
    """Return where in a payload something is: `'to'`, `'items'[2]['price']`."""
    path = ""
    for key in keys:
        path += f"[{key!r}]" if path or isinstance(key, int) else repr(key)
    return path


def _not_a(value: Any) -> str:
    return f", not {type(value).__name__}"
