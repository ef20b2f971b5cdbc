"""Telling systemd how things stand, for services of `Type=notify` and `Type=notify-reload`.

The protocol is that of https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html: a datagram of
`KEY=value` lines to the socket that `NOTIFY_SOCKET` names. Where there is none, nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping


class Systemd:
    """The service manager, if there is one. Takes its variables out of `environ`: they are not for our children."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        name = environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        usec = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", str(os.getpid()))
        watched = bool(self._address) and usec.isdecimal() and pid == str(os.getpid())
        self._started = False
        self._watchdog_seconds = int(usec) / 1e6 if watched else None

    def started(self, status: str) -> None:
        """Say that the worker is up; only the first time, since it would end a reload that is under way."""
        if not self._started:
            self._started = True
            self.ready(status)

    def ready(self, status: str) -> None:
        """Say that the worker is up, or that a reload is over."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the worker is about to end."""
        self._send("STOPPING=1", "STATUS=waiting for running jobs")

    async def watch(self, problems: Callable[[], list[str]]) -> None:
        """Feed the watchdog twice in its time, for as long as there are no problems; it kills the worker otherwise."""
        while self._watchdog_seconds is not None:
            found = problems()
            if found:
                self._send(f"STATUS={'; '.join(found)}")
            else:
                self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_seconds / 2)

    def _send(self, *lines: str) -> None:
        if self._address:
            # A manager that does not take it is no reason to stop work.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
