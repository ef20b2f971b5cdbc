"""JSON in both directions without silent loss.

PostgreSQL's `json` type keeps the text it was given, so a payload can hold what common decoders change without a
word: integers of thirty digits, decimals of forty, `1e400`, a lone surrogate. And Python holds what JSON cannot: NaN,
sets, keys that are no strings. Both functions here are exact or raise `PayloadError`; the common case runs at the
speed of orjson, and only texts and values that orjson would change take the slow way.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import re
import uuid
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import orjson

from pgtasks.errors import PayloadError, a_or_an

if TYPE_CHECKING:
    from collections.abc import Callable

# orjson reads numbers into 64-bit integers and doubles. Fifteen significant digits and a two-digit exponent always
# survive that; anything longer is looked at by `exact_number`. A match inside a string only costs time.
_NEEDS_EXACT_NUMBERS = re.compile(rb"[0-9.]{16,}|[0-9][eE][-+]?[0-9]{3}")

_MOST_DIGITS: Final = 4300
"""As many as Python reads of an integer. `int(Decimal("1e999999999"))` would take a worker hours and all its memory."""

NULL: Final = orjson.Fragment(b"null")
"""The value that is written as null where None stands for something else."""


def needs_exact_numbers(raw: bytes) -> bool:
    """Whether JSON may hold a number that a double cannot."""
    return _NEEDS_EXACT_NUMBERS.search(raw) is not None


def decode(text: bytes | str) -> Any:
    """Return the Python value of a JSON `text`.

    Objects become dicts, arrays lists, whole numbers ints of any size. A number with a fraction or an exponent
    becomes a float when the float stands for the same decimal, else a `decimal.Decimal`. Lone surrogates stay as
    they are.

    Raises:
        PayloadError: the text cannot be a Python value: not JSON, nested too deeply, a number of over 4300 digits
            when its exponent is written out.

    >>> decode('{"n": 123456789012345678901234567890, "price": 0.1}')
    {'n': 123456789012345678901234567890, 'price': 0.1}
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if not _NEEDS_EXACT_NUMBERS.search(raw):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass  # perhaps a lone surrogate, which the decoder below accepts
    try:
        # Decoded here, since json.loads would take bytes with zeros in them for UTF-16.
        decoded = raw.decode("utf-8", "surrogatepass")
        return json.loads(decoded, parse_float=exact_number, parse_constant=_refuse_constant)
    except RecursionError:
        raise PayloadError("payload is nested too deeply to be read") from None
    except ValueError as error:
        raise PayloadError(f"payload cannot be read as a Python value: {error}") from None


def encode(value: Any, what: str = "payload") -> str:
    """Return `value` as JSON text.

    Takes what JSON has (None, bool, int, float, str, list, tuple, dict with string keys) and, one way, dataclasses,
    enums, datetimes, dates, times, UUIDs (as strings) and Decimals (as exact numbers).

    Raises:
        PayloadError: JSON cannot hold the value; the message says where in it, and of which type. `what` is its name.

    >>> encode({"to": "ada@example.com"})
    '{"to":"ada@example.com"}'
    """
    try:
        text = _dump(value)
    except TypeError:
        return _encode_exactly(value, what)
    if "null" in text and not (isinstance(value, orjson.Fragment) or _is_finite(value)):
        return _encode_exactly(value, what)
    return text


def encode_each(values: list[Any]) -> list[str] | None:
    """Return what `encode` returns for each of many values, or None if it has to be asked about each: one is unusual.

    >>> encode_each([1, {"to": "ada@example.com"}])
    ['1', '{"to":"ada@example.com"}']
    """
    try:
        texts = [_dump(value) for value in values]
    except TypeError:
        return None
    return texts if "null" not in ",".join(texts) or _is_finite(values) else None


def _dump(value: Any) -> str:
    # A dataclass's fields are given by us, since orjson leaves out those that begin with an underscore.
    return orjson.dumps(value, _dataclass_fields, orjson.OPT_PASSTHROUGH_DATACLASS).decode()


def _is_finite(value: Any) -> bool:
    """Whether it is certain that no null in a value's JSON stands for NaN or an infinity, as orjson writes them."""
    try:
        _FINITE.encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def exact_number(literal: str) -> float | Decimal:
    """Return a number with a fraction or an exponent: a float, if that stands for the same decimal."""
    number = float(literal)
    try:
        exact = Decimal(literal)
    except InvalidOperation:
        exact = None
    if exact is None or _is_too_long(exact):
        raise ValueError("it has a number whose exponent is too large")
    if math.isfinite(number) and Decimal(repr(number)) == exact:
        return number
    return exact


def _is_too_long(number: Decimal) -> bool:
    return abs(number.adjusted()) >= _MOST_DIGITS


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _encode_exactly(value: Any, what: str) -> str:
    pieces: list[str] = []
    try:
        _write(value, what, pieces.append)
    except RecursionError:
        raise PayloadError(f"{what} is nested too deeply, or contains itself") from None
    return "".join(pieces)


def _write(value: Any, path: str, put: Callable[[str], None]) -> None:
    # bool before int and enum before str and int, since each is a subclass of the latter.
    if value is None or value is True or value is False:
        put("null" if value is None else "true" if value else "false")
    elif isinstance(value, enum.Enum):
        _write(value.value, path, put)
    elif isinstance(value, str):
        put(json.dumps(value))  # the characters, whatever a subclass makes of str()
    elif isinstance(value, int):
        put(_integer(value, path))
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PayloadError(f"{path} is {float(value)!r}, which JSON cannot hold")
        put(float.__repr__(value))
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise PayloadError(f"{path} is {value}, which JSON cannot hold")
        if _is_too_long(value):
            raise PayloadError(f"{path} is a number whose exponent is too large")
        put(str(value))
    elif isinstance(value, dict):
        _write_object(value, path, put)
    elif isinstance(value, (list, tuple)):
        put("[")
        for index, item in enumerate(value):
            if index:
                put(",")
            _write(item, f"{path}[{index}]", put)
        put("]")
    elif isinstance(value, (dt.datetime, dt.date, dt.time)):
        put(f'"{value.isoformat()}"')
    elif isinstance(value, uuid.UUID):
        put(f'"{value}"')
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _write_object(_dataclass_fields(value), path, put)
    else:
        raise PayloadError(f"{path} is {a_or_an(_type_name(value))}, which JSON cannot hold")


def _write_object(value: dict[Any, Any], path: str, put: Callable[[str], None]) -> None:
    put("{")
    for index, (key, item) in enumerate(value.items()):
        if not isinstance(key, str):
            raise PayloadError(f"{path} has the key {key!r} of type {_type_name(key)}; keys must be strings")
        if index:
            put(",")
        put(json.dumps(key))
        put(":")
        _write(item, f"{path}[{key!r}]", put)
    put("}")


def _dataclass_fields(value: Any) -> dict[str, Any]:
    if isinstance(value, type):
        raise TypeError("a class has no values")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


_FINITE = json.JSONEncoder(allow_nan=False, check_circular=False, default=_dataclass_fields)


def _integer(value: int, path: str) -> str:
    try:
        return int.__repr__(value)
    except ValueError as error:
        raise PayloadError(f"{path} is an integer that is too long: {error}") from None


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
