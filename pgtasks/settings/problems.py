"""Validation errors in plain words: pydantic's say what type was expected, not what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

_LONGEST_VALUE: Final = 60


def explain(error: ErrorDetails, *, secret: bool) -> str:
    """Return what is wrong with a value, as the rest of a sentence that begins with where it came from.

    Args:
        error: One of `ValidationError.errors()`.
        secret: Leave the value itself out.
    """
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    words = _WORDS.get(error["type"])
    problem = words(context) if words else error["msg"][:1].lower() + error["msg"][1:]
    return problem if secret else f"{problem}, not {shorten(error['input'])}"


def shorten(value: object) -> str:
    """Return a value as it would be written in Python, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _fixed(words: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda _context: words


_WHOLE: Final = _fixed("must be a whole number")
_NUMBER: Final = _fixed("must be a number")
_SWITCH: Final = _fixed("must be true or false")
_TEXT: Final = _fixed("must be text")
_LIST: Final = _fixed("must be a list")

_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _fixed("must be a finite number"),
    "bool_parsing": _SWITCH,
    "bool_type": _SWITCH,
    "string_type": _TEXT,
    "path_type": _fixed("must be a path"),
    "tuple_type": _LIST,
    "greater_than": lambda context: f"must be more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:g}",
    "less_than_equal": lambda context: f"must be at most {context['le']:g}",
    "literal_error": lambda context: f"must be {context['expected']}",
}
