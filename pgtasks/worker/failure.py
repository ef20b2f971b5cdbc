"""An exception as text that PostgreSQL can store and a person can read."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from pgtasks import handlers

_OWN = (str(Path(__file__).parent) + os.sep, handlers.__file__)
"""Where the frames come from between a worker's beginning and the handler's."""
_LONGEST = 16_000
_PLAIN = ("builtins", "__main__", "pgtasks.errors")
"""Modules that are not named before their exceptions."""
_FRAMES = 40


def describe(error: BaseException, summary: str | None = None) -> str:
    """Return the error's summary on the first line, or the one that is given, and its traceback below.

    Our own frames and the values of variables are not in it. The text holds nothing that a `text` column cannot.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN):
        frames = frames.tb_next
    if summary is None:
        summary = summarize(error)
    if frames is None:
        return summary
    try:
        trace = "".join(traceback.TracebackException(type(error), error, frames, limit=-_FRAMES).format())
    except BaseException:  # noqa: BLE001 - a __str__ or a __cause__ of the user's may raise anything
        trace = "".join(traceback.format_tb(frames, limit=-_FRAMES))
    return _storable(f"{summary}\n\n{trace}".rstrip())


def summary_of(description: str) -> str:
    """Return the first line of what `describe` gave."""
    return description.partition("\n")[0]


def trace_of(description: str) -> str | None:
    """Return the traceback in what `describe` gave, if there is one."""
    return description.partition("\n\n")[2] or None


def summarize(error: BaseException) -> str:
    """Return an error's type and text in one line, as PostgreSQL can store them."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ in _PLAIN else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001 - a __str__ of the user's may raise anything
        message = "<its text cannot be shown>"
    return _storable(f"{name}: {message}" if message else name)


def _storable(text: str) -> str:
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}\n… {len(text) - _LONGEST} characters left out …\n{text[-half:]}"
    return text
