"""Whether a worker lives and whether it is ready, for whoever asks by HTTP.

Live is more than being there: the supervisor's loop answers, and each worker process has lately said that it moves. A
process that was stopped, or whose event loop or interpreter a job does not let go, is not live.

Ready means that it takes jobs: as many processes as are wanted have claimed, the database answers, and it is not about
to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from pgtasks.database.errors import reason_of
from pgtasks.errors import PgtasksError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgtasks.worker.fleet import Fleet
    from pgtasks.worker.link import DatabaseLink

log = get_logger("pgtasks.worker")

_FRESH_SECONDS = 60.0
"""The supervisor asks the database something every ten seconds or so; an answer older than this is none."""
_REQUEST_SECONDS = 5.0
"""How long a request may take to arrive, and its answer to go."""
_LONGEST_REQUEST = 16384


class Health:
    """How a worker is.

    Args:
        fleet: its processes.
        link: its database.
        stalled_after: seconds after which a process that has not moved counts as stuck.
        stopping: whether it is about to stop.
        plugins_say: returns what plugins say is wrong.
    """

    def __init__(
        self,
        fleet: Fleet,
        link: DatabaseLink,
        *,
        stalled_after: Callable[[], float],
        stopping: Callable[[], bool],
        plugins_say: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self._plugins_say = plugins_say
        self._fleet = fleet
        self._link = link
        self._stalled_after = stalled_after
        self._stopping = stopping

    def life_problems(self) -> list[str]:
        """Return why the worker is not live; nothing if it is."""
        found = []
        for member in self._fleet.members:
            still = member.seconds_still
            if still > self._stalled_after():
                who = f"worker process {member.index}" + (f" (pid {member.pid})" if member.pid else "")
                found.append(f"{who} has not moved for {still:.0f} s")
        return found

    def readiness_problems(self) -> list[str]:
        """Return why the worker is not ready; nothing if it is."""
        found = []
        if self._stopping():
            found.append("the worker is stopping")
        if self._fleet.ready < self._fleet.wanted:
            found.append(f"{self._fleet.ready} of {self._fleet.wanted} worker processes are ready")
        if self._link.away or self._link.seconds_since_answer() > _FRESH_SECONDS:
            found.append("the database does not answer")
        return found + self.life_problems()

    async def listen(self, address: str, port: int) -> asyncio.Server:
        """Answer requests from now on.

        Raises:
            PgtasksError: the address cannot be listened on.
        """
        try:
            server = await asyncio.start_server(self._serve, address, port, limit=_LONGEST_REQUEST)
        except OSError as error:
            raise PgtasksError(
                f"health cannot be served at {address}, port {port}: {reason_of(error)}; choose another health_port or "
                f"health_address"
            ) from error
        log.info("health_served", address=address, port=server.sockets[0].getsockname()[1])
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(request))
                await writer.drain()
        writer.close()

    async def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.split(b" ")[0].partition(b"?")[0]
        asked = {b"/live": self.life_problems, b"/ready": self.readiness_problems}.get(path)
        if asked is None:
            status, body = HTTPStatus.NOT_FOUND, {"error": "ask for /live or /ready"}
        elif method not in (b"GET", b"HEAD"):
            status, body = HTTPStatus.METHOD_NOT_ALLOWED, {"error": "only GET and HEAD are answered"}
        else:
            problems = asked()
            if path == b"/ready":
                problems += await self._plugins_say()
            status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
            return _response(status, {"ok": not problems, "problems": problems}, with_body=method == b"GET")
        return _response(status, body)


def _response(status: HTTPStatus, body: object, *, with_body: bool = True) -> bytes:
    text = json.dumps(body).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (text if with_body else b"")
