"""Ctrl-C and its like, noted while there is something to clean up."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """The signals that ask to end: as they were until `hold`, and then only noted, until the `with` block ends.

    Nothing is raised from a handler, so whatever cleans up is never cut short; a second signal changes nothing.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def received(self) -> bool:
        """Whether a signal has come since `hold`."""
        return self._received is not None

    def hold(self) -> None:
        """From now on only note signals."""
        for number in _NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                self._before[number] = signal.signal(number, self._note)

    def end(self) -> None:
        """End the command as the signal that came would have, if one came.

        Raises:
            KeyboardInterrupt: It was SIGINT.
            SystemExit: It was another one; the code is what a shell shows for it.
        """
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received is not None:
            raise SystemExit(128 + self._received)

    def _note(self, number: int, _frame: object) -> None:
        if self._received is None:
            self._received = number
