"""A proxy in front of a server that counts what goes over the wire."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from types import TracebackType


class CountingProxy:
    """Passes connections on to the server that `conninfo` names by its socket directory.

    A flight is what a client sends before it hears from the server again, so that each is a round trip. It is written
    as the types of its messages: `PBDES` parses, binds, describes, executes and asks for the result.
    """

    def __init__(self, conninfo: str) -> None:
        parts = conninfo_to_dict(conninfo)
        self._upstream = f"{parts['host']}/.s.PGSQL.{parts.get('port') or 5432}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self._lock = threading.Lock()
        self._flights: list[str] = []
        self._links: list[_Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.close()

    def flights(self) -> list[str]:
        """Return the flights since the last call, those of connecting not among them."""
        with self._lock:
            flights, self._flights = self._flights, []
            return flights

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._upstream)
            self._links.append(_Link(self, client, server))

    def note(self, messages: str, *, is_new_flight: bool) -> None:
        with self._lock:
            if is_new_flight or not self._flights:
                self._flights.append("")
            self._flights[-1] += messages


class _Link:
    """A connection of a client, and that to the server."""

    def __init__(self, proxy: CountingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._answered = True
        self._unread = b""
        self._is_started = False
        for passing in (self._pass_to_server, self._pass_to_client):
            threading.Thread(target=passing, daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads it
            end.close()

    def _pass_to_server(self) -> None:
        with suppress(OSError):  # an end is closed
            while data := self._client.recv(65536):
                if messages := self._read(data):
                    self._proxy.note(messages, is_new_flight=self._answered)
                    self._answered = False
                self._server.sendall(data)
        self.close()

    def _pass_to_client(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(65536):
                self._answered = True
                self._client.sendall(data)
        self.close()

    def _read(self, data: bytes) -> str:
        """Return the types of the messages that end in `data`; what begins the session has none, and is left out."""
        self._unread += data
        messages = ""
        while True:
            head = 1 if self._is_started else 0
            if len(self._unread) < head + 4:
                return messages
            size = head + int.from_bytes(self._unread[head : head + 4], "big")
            if len(self._unread) < size:
                return messages
            messages += self._unread[:head].decode()
            self._unread = self._unread[size:]
            self._is_started = True
