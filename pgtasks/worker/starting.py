"""Being told to stop before the supervisor's event loop runs.

Signal handlers only note it; the steps of starting look between them, so that each is undone in good order.
"""

from __future__ import annotations

import select
import signal
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class StoppedWhileStartingError(Exception):
    """The worker was told to stop before it ran."""


class StopWhileStarting:
    """Notes a TERM signal. INT raises KeyboardInterrupt, as Python does by itself, until the event loop runs.

    HUP changes nothing: the application is being imported just now.
    """

    def __init__(self) -> None:
        self._noted, self._note = socket.socketpair()
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda *_: None)

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

    def _on_signal(self, _number: int, _frame: FrameType | Any) -> None:
        self._note.send(b"t")
