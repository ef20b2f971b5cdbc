"""What pydantic is given to check payloads with, and what can be told from its schemas.

Of TypedDicts it gets copies: before Python 3.12 it refuses those of `typing`, and they carry a configuration of ours.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import re
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import typing_extensions
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    create_model,
)

from pgtasks.errors import TaskDefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CONFIG: Final = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="constants",
    allow_inf_nan=False,
    revalidate_instances="always",
)
"""For all but models and what has a configuration of its own: bytes as base64, and no NaN, nor a null in its place.
Nothing has looked at what dataclasses hold, so that is done here."""
_PRESENCE: Final = (typing_extensions.Required, typing_extensions.NotRequired, typing_extensions.ReadOnly)
_SCALARS: Final = (str, int, float, bytes)
_SECRETS: Final = (Secret, SecretBytes, SecretStr)
_LOST: Final = object()
_NO_SCHEMA: Final = re.compile(r"Unable to generate pydantic-core schema for (.*)\. Set `")


def missing_name(what: str, name: str | None) -> TaskDefinitionError:
    """Return the error that `what` of a task names something which is not there, or not yet."""
    error = TaskDefinitionError(
        f"{what} {name!r}, which is not there when the program runs; define it at module level, and import it outside "
        f"of `if TYPE_CHECKING`"
    )
    error.missing = name or ""
    return error


def make_model(task: str, place: str, hint: Any, what: str = "payload") -> type[BaseModel]:
    """Return a model whose field `payload` is of a type.

    Args:
        task: the task's name, for messages.
        place: where its handler is defined, likewise.
        hint: the type.
        what: what of the task's is of that type, likewise.

    Raises:
        TaskDefinitionError: pydantic cannot check such a type.
    """
    try:
        model = create_model("Payload", __config__=_CONFIG, payload=(renewed(hint), ...))
        if not model.__pydantic_complete__:
            model.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise missing_name(f"Task {task!r} at {place}: a type of its {what} names", error.name) from None
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        problem = str(error).splitlines()[0]
        if (unknown := _NO_SCHEMA.match(problem)) is not None:
            instead = "take a dataclass, a TypedDict or a pydantic model instead"
            problem = f"{unknown[1]} is no type that pydantic knows; {instead}"
        raise TaskDefinitionError(f"Task {task!r} at {place}: its {what} cannot be checked: {problem}") from None
    if "payload" not in model.model_fields:
        raise TaskDefinitionError(f"Task {task!r} at {place}: its {what} cannot be checked: nothing is a {hint!r}")
    return model


def make_typed_dict(name: str, fields: Mapping[str, Any], *, open_ended: bool = False) -> Any:
    """Return a TypedDict with these keys, which takes any others, too, if it is open-ended."""
    made = _empty_typed_dict(name, open_ended=open_ended)
    _fill(made, fields, frozenset(), {})
    return made


def renewed(hint: Any, made: dict[Any, Any] | None = None) -> Any:
    """Return an annotation with each TypedDict made anew.

    Args:
        hint: the annotation.
        made: those that are being made, by the original: a TypedDict may contain itself.
    """
    made = {} if made is None else made
    if typing_extensions.is_typeddict(hint):
        if hasattr(hint, "__pydantic_config__"):
            return hint
        if hint not in made:
            made[hint] = _empty_typed_dict(hint.__name__)
            fields = typing_extensions.get_type_hints(hint, include_extras=True)
            _fill(made[hint], fields, hint.__optional_keys__, made)
        return made[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is None or origin is Literal:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(renewed(arguments[0], made), *arguments[1:])]
    anew = tuple(renewed(each, made) for each in arguments)
    if all(map(operator.is_, anew, arguments)):
        return hint
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, anew)
    return origin[anew[0] if len(anew) == 1 else anew]


def _empty_typed_dict(name: str, *, open_ended: bool = False) -> Any:
    make: Any = typing_extensions.TypedDict
    made = make(name, {})
    made.__pydantic_config__ = ConfigDict(**_CONFIG, extra="allow") if open_ended else _CONFIG
    return made


def _fill(typed_dict: Any, fields: Mapping[str, Any], optional: frozenset[str], made: dict[Any, Any]) -> None:
    """Give a TypedDict its keys; those may miss that are optional, unless their annotation says so itself.

    It does where annotations were text when the original was made, so that Python could not tell.
    """
    annotations, required = {}, set()
    for key, hint in fields.items():
        bare, is_required = hint, key not in optional
        while (origin := typing.get_origin(bare)) in _PRESENCE:
            (bare,) = typing.get_args(bare)
            if origin is not typing_extensions.ReadOnly:
                is_required = origin is typing_extensions.Required
        annotations[key] = renewed(bare, made)
        if is_required:
            required.add(key)
    typed_dict.__annotations__ = annotations
    typed_dict.__required_keys__ = frozenset(required)
    typed_dict.__optional_keys__ = frozenset(annotations.keys() - required)


def decides_on_extras(part: Any) -> bool:
    """Whether a type in a schema says itself what is done about extra keys."""
    config = part.get("config")
    return isinstance(config, dict) and "extra_fields_behavior" in config


def is_ambiguous(part: Any) -> bool:
    """Whether JSON of a value may be read as another value: as one of another type in a union, or as a mask."""
    return bool(part.get("type") == "union") or "_serialize_secret" in getattr(part.get("function"), "__name__", "")


def has_free_keys(part: Any) -> bool:
    """Whether a type in a schema is a dict."""
    return bool(part.get("type") == "dict")


def is_strict(part: Any) -> bool:
    """Whether a type in a schema takes less from Python code than it takes from JSON."""
    config = part.get("config")
    return part.get("strict") is True or (isinstance(config, dict) and config.get("strict") is True)


def any_part(schema: Any, fact: Callable[[Any], bool]) -> bool:
    """Whether something is so of any part of one of pydantic's core schemas."""
    if isinstance(schema, dict):
        # In pydantic's own types strict and lax schemas stand side by side, and only the lax one is used.
        parts = (value for name, value in schema.items() if name not in ("metadata", "strict_schema"))
        return fact(schema) or any(any_part(part, fact) for part in parts)
    return isinstance(schema, list | tuple) and any(any_part(part, fact) for part in schema)


def difference(given: Any, back: Any, path: tuple[Any, ...] = ()) -> tuple[tuple[Any, ...], str] | None:
    """Return where a value, and what came back of it, are not of the same type, and how; None if nowhere."""
    is_scalar = isinstance(back, _SCALARS) and not isinstance(given, enum.Enum)
    if not isinstance(given, type(back)) if is_scalar else type(given) is not type(back):
        return path, f"is of type {_name(given)}, and what is stored of it would be read as {_name(back)}"
    if isinstance(given, _SECRETS) and given != back:
        return path, f"is of type {_name(given)}, of which asterisks are stored; give it a serializer"
    for key, part, part_back in _pairs(given, back):
        if part_back is _LOST:
            return (*path, key), "would be stored under another key"
        if (found := difference(part, part_back, (*path, key))) is not None:
            return found
    return None


def _name(value: Any) -> str:
    return type(value).__name__


def _pairs(given: Any, back: Any) -> Sequence[tuple[Any, Any, Any]]:
    if isinstance(given, Mapping):
        return [(key, given[key], back.get(key, _LOST)) for key in given]
    if isinstance(given, list | tuple):
        return [(place, *pair) for place, pair in enumerate(zip(given, back, strict=False))]
    names: Any = ()
    if isinstance(given, BaseModel):
        names = type(given).model_fields
    elif dataclasses.is_dataclass(given):
        names = [each.name for each in dataclasses.fields(given)]
    return [(name, getattr(given, name), getattr(back, name)) for name in names]
