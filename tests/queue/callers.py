"""Callers of pgtasks, from blocking and from asyncio code, with connections of their own: the same calls for both."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator


class Caller(Protocol):
    """Calls methods by the names that they have in blocking code."""

    def __call__(self, owner: Any, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of pgtasks, or its asyncio counterpart."""

    def own(self, connection: Any, method: str, *args: Any) -> Any:
        """Call a method of a connection, which has the same name in asyncio code."""

    def connect(self, conninfo: str, *, autocommit: bool = False) -> Any:
        """Open a connection of the caller's own, which is closed at the end of the test."""

    def transaction(self, connection: Any) -> Any:
        """Enter `connection.transaction()`."""


class BlockingCaller:
    def __init__(self) -> None:
        self._connections: list[psycopg.Connection[Any]] = []

    def __call__(self, owner: Any, method: str, *args: Any, **options: Any) -> Any:
        return getattr(owner, method)(*args, **options)

    def own(self, connection: Any, method: str, *args: Any) -> Any:
        return getattr(connection, method)(*args)

    def connect(self, conninfo: str, *, autocommit: bool = False) -> Any:
        connection = psycopg.connect(conninfo, autocommit=autocommit)
        self._connections.append(connection)
        return connection

    def transaction(self, connection: Any) -> Any:
        return connection.transaction()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class AsyncioCaller:
    def __init__(self, runner: asyncio.Runner) -> None:
        self._run = runner.run
        self._connections: list[psycopg.AsyncConnection[Any]] = []

    def __call__(self, owner: Any, method: str, *args: Any, **options: Any) -> Any:
        return self._run(getattr(owner, f"{method}_async")(*args, **options))

    def own(self, connection: Any, method: str, *args: Any) -> Any:
        return self._run(getattr(connection, method)(*args))

    def connect(self, conninfo: str, *, autocommit: bool = False) -> Any:
        connection = self._run(psycopg.AsyncConnection.connect(conninfo, autocommit=autocommit))
        self._connections.append(connection)
        return connection

    @contextmanager
    def transaction(self, connection: Any) -> Iterator[None]:
        block = connection.transaction()
        self._run(block.__aenter__())
        try:
            yield
        except BaseException as error:
            self._run(block.__aexit__(type(error), error, None))
            raise
        self._run(block.__aexit__(None, None, None))

    def close(self) -> None:
        for connection in self._connections:
            self._run(connection.close())


@contextmanager
def callers(kind: str) -> Iterator[Caller]:
    """Provide a caller of a kind, `blocking` or `asyncio`."""
    with asyncio.Runner() as runner:
        caller = BlockingCaller() if kind == "blocking" else AsyncioCaller(runner)
        try:
            yield caller
        finally:
            caller.close()
