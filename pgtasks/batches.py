"""What a handler that gets a list says of its items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.errors import JobOptionError, a_or_an

if TYPE_CHECKING:
    from collections.abc import Sequence


class BatchResult:
    """How the items of a list payload have fared. Only those that have failed are left for the job's next attempt.

    A handler may as well return a list with an entry for each item, in which exceptions stand for failures; in an
    `async def` one entries may be awaitables.

    Args:
        failures: by position in the payload, counted from 0, why items have failed; all others have succeeded.

    Raises:
        JobOptionError: a position is no whole number, or what stands for a failure is no exception.

    Examples:
        >>> from pgtasks import BatchResult
        >>> BatchResult({2: ValueError("no such address")})
        BatchResult({2: ValueError('no such address')})
    """

    def __init__(self, failures: Mapping[int, BaseException] | None = None) -> None:
        if failures is not None and not isinstance(failures, Mapping):
            raise JobOptionError(
                f"BatchResult takes failures by position, as in BatchResult({{2: error}}), and not a "
                f"{type(failures).__name__}"
            )
        self.failures = dict(failures or {})
        self._items: int | None = None
        given: Mapping[Any, Any] = self.failures
        for place, error in given.items():
            if not isinstance(place, int) or isinstance(place, bool) or place < 0:
                raise JobOptionError(f"BatchResult: {place!r} is not the position of an item")
            if not isinstance(error, BaseException):
                raise JobOptionError(
                    f"BatchResult: item {place} must be given an exception, not {type(error).__name__}"
                )

    def __repr__(self) -> str:
        return f"BatchResult({self.failures!r})"

    @classmethod
    def of(cls, results: Sequence[Any]) -> BatchResult:
        """Return what results say that belong to the items by position: exceptions are failures."""
        said = enumerate(map(made_of_class, results))
        made = cls({place: result for place, result in said if isinstance(result, BaseException)})
        made._items = len(results)
        return made

    def failures_in(self, payload: Any, task: str) -> dict[int, BaseException]:
        """Return the failures, in the order of the items.

        Args:
            payload: what the handler was given.
            task: the task's name, for messages.

        Raises:
            TypeError: the payload is no list, or has no such items.
        """
        if not self.failures:
            return {}
        if not isinstance(payload, list | tuple):
            raise TypeError(
                f"task {task!r} told how items have fared, but its payload is {a_or_an(type(payload).__name__)}"
            ) from next(iter(self.failures.values()))
        if self._items not in (None, len(payload)):
            raise TypeError(f"task {task!r} returned {self._items} results for {len(payload)} items")
        if max(self.failures) >= len(payload):
            raise TypeError(f"task {task!r} told of item {max(self.failures)}, and there are {len(payload)}")
        return dict(sorted(self.failures.items()))


def made_of_class(result: Any) -> Any:
    """Return an exception where its class stands for it, as `raise` does; all else as it is."""
    return result() if isinstance(result, type) and issubclass(result, BaseException) else result
