"""What handlers return, where it is stored: checked by the return annotation, written as JSON, and read again."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any

from pgtasks import codec
from pgtasks.batches import BatchResult
from pgtasks.payload import PayloadType, whole_type

if TYPE_CHECKING:
    from collections.abc import Callable


class ResultType(PayloadType):
    """The type of what a task's handler returns."""

    what = "result"

    def write(self, result: Any) -> str:
        """Return as JSON what the handler has returned; null for what says how a batch has fared.

        Raises:
            PayloadError: JSON cannot hold it, or it is not what the annotation says.
        """
        return codec.encode(self.dump(result), f"what task {self._task!r} returned")

    def dump(self, payload: Any) -> Any:
        """Check what the handler has returned; returns what JSON is to be made of."""
        result = None if isinstance(payload, BatchResult) else payload
        if self._make_model is not None:
            return self._written(result, result)
        self._check_plain(result)
        return result

    def read(self, text: bytes) -> Any:
        """Return what `write` was given.

        Raises:
            PayloadError: it is not what the annotation says (any more).
        """
        return self.load(text)

    @property
    def _cannot_take(self) -> str:
        return f"what task {self._task!r} returned is not what its annotation says:"


def result_type(task: str, place: str, annotation: Any, hint: Callable[[], Any]) -> ResultType:
    """Return the type of what a handler returns.

    Args:
        task: the task's name.
        place: where its handler is defined, for messages.
        annotation: its return annotation as it stands there.
        hint: returns the annotation with names resolved.
    """
    return whole_type(task, place, annotation, lambda: _stored(hint()), ResultType)


def _stored(hint: Any) -> Any:
    """Return an annotation without what says what becomes of the job, such as `Retry`, in place of being a result."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.Union[tuple(None if _is_word(each) else each for each in typing.get_args(hint))]  # noqa: UP007
    return None if _is_word(hint) else hint


def _is_word(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException | BatchResult)
