"""Being told to stop before the supervisor's event loop runs.

Signal handlers only note it; the steps of starting look between them, so that each is undone in good order. Only what
waits in the database is interrupted, where a transaction is what is undone.
"""

from __future__ import annotations

import select
import signal
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class StoppedWhileStartingError(Exception):
    """The worker was told to stop before it ran."""


class StopWhileStarting:
    """Notes a TERM signal. INT raises KeyboardInterrupt, as Python does by itself, until the event loop runs.

    HUP, TTIN, TTOU and USR1 change nothing: there are no processes yet, and the application is being imported just now.
    """

    def __init__(self) -> None:
        self._noted, self._note = socket.socketpair()
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: None)
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)

    def check(self) -> None:
        """Raise if the signal has come.

        Raises:
            StoppedWhileStartingError: it has.
        """
        if select.select([self._noted], [], [], 0)[0]:
            raise StoppedWhileStartingError

    def wait_for(self, sock: socket.socket) -> None:
        """Wait until `sock` can be read.

        Raises:
            StoppedWhileStartingError: the signal came first.
        """
        if self._noted in select.select([self._noted, sock], [], [])[0]:
            raise StoppedWhileStartingError

    def interrupts(self, use_database: Callable[[], None]) -> None:
        """Call what may have to wait for the database, and let the signal end that wait.

        The signal does what INT does, which psycopg answers by cancelling the statement in the server.

        Raises:
            StoppedWhileStartingError: it has come.
        """
        try:
            signal.signal(signal.SIGTERM, self._interrupt)
            try:
                self.check()
                use_database()
            finally:
                signal.signal(signal.SIGTERM, self._on_signal)
        except KeyboardInterrupt:
            self.check()
            raise
        self.check()

    def _interrupt(self, number: int, frame: FrameType | Any) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)  # a second one must not disturb what the first one has begun
        self._on_signal(number, frame)
        raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | Any) -> None:
        self._note.send(b"t")
