"""A TCP proxy in front of a server that can be made to delay, to fall silent and to cut its connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Passes connections on to the server that `conninfo` names by its socket directory, from a thread of its own."""

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._upstream = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"
        self._port = free_port()
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=self._port)
        self._delay = 0.0
        self._silent = False
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self._port), self._loop
        ).result()

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data for so long from now on."""
        self._in_loop(lambda: setattr(self, "_delay", seconds))

    def fall_silent(self) -> None:
        """Drop all data from now on, of connections that are open and of new ones, and close none: half-open."""

        def act() -> None:
            self._silent = True
            for link in self._links:
                link.dead = True

        self._in_loop(act)

    def speak(self) -> None:
        """Serve new connections again; those that were open in the silence stay as they are."""
        self._in_loop(lambda: setattr(self, "_silent", False))

    def cut(self) -> None:
        """Reset all connections that are open."""
        self._in_loop(self._reset)

    def close(self) -> None:
        """End it all."""

        async def end() -> None:
            self._server.close()
            serving = asyncio.all_tasks() - {asyncio.current_task()}
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _reset(self) -> None:
        for link in self._links:
            link.reset()

    def _in_loop(self, act: Callable[[], object]) -> None:
        async def acting() -> None:
            act()

        asyncio.run_coroutine_threadsafe(acting(), self._loop).result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        link.dead = self._silent
        self._links.add(link)
        try:
            to_server = await asyncio.open_unix_connection(self._upstream)
            link.ends.append(to_server[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(link, reader, to_server[1]))
                group.create_task(self._pass(link, to_server[0], writer))
        except* OSError:
            pass  # the server is away, or an end was reset
        finally:
            link.reset()
            self._links.discard(link)

    async def _pass(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._delay:
                await asyncio.sleep(self._delay)
            if not link.dead:
                writer.write(data)
                await writer.drain()
        if link.dead:
            await asyncio.Event().wait()  # not even the end of the connection is passed on
        raise ConnectionResetError  # one end is closed, so is the other


class _Link:
    """A connection of a client, and that to the server."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.ends = [writer]
        self.dead = False

    def reset(self) -> None:
        for end in self.ends:
            raw = end.get_extra_info("socket")
            if raw is not None and raw.family == socket.AF_INET and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.transport.abort()
