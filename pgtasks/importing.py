"""Importing the user's modules, with errors that show the user's code and neither ours nor the import system's."""

from __future__ import annotations

import contextlib
import importlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.errors import AppLoadError, PgtasksError

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = str(Path(__file__).parent) + "/"


@contextlib.contextmanager
def explaining(what: str, *, missing: str | None = None) -> Iterator[None]:
    """Turn what an import raises into an error that says `what` cannot be imported, and why.

    Args:
        what: names it, as in `module 'shop'`.
        missing: the name of a module about whose absence the caller has more to say, and whose error is let through.

    Raises:
        AppLoadError: the import has raised something, with the traceback of the user's code; or an error of ours, with
            the line of the user's code that led to it.
        ModuleNotFoundError: there is no module `missing`, or one that it is in.
    """
    try:
        yield
    except PgtasksError as error:
        raise AppLoadError(f"{what} cannot be imported: {_with_place(error)}") from None
    except BaseException as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        asked = missing is not None and absent is not None and (missing == absent or missing.startswith(f"{absent}."))
        if asked or isinstance(error, KeyboardInterrupt):
            raise
        raise AppLoadError(f"{what} cannot be imported:\n{_users_traceback(error)}") from None


def _with_place(error: PgtasksError) -> str:
    message = str(error)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _is_machinery(frame.filename) and not frame.filename.startswith(_OURS):
            return message if frame.filename in message else f"{message} ({frame.filename}:{frame.lineno})"
    return message


def _users_traceback(error: BaseException) -> str:
    frames = error.__traceback__
    while frames is not None and (
        _is_machinery(frames.tb_frame.f_code.co_filename) or frames.tb_frame.f_code.co_filename.startswith(_OURS)
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error.with_traceback(frames), frames)).rstrip()


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or file == importlib.__file__
