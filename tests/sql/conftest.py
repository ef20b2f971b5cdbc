"""Fixtures for tests of the SQL."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.sql.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

_numbers = itertools.count(1)


@pytest.fixture
def queue(connection: psycopg.Connection[Any], schema: str) -> Queue:
    return Queue(connection, schema)


@pytest.fixture
def other(queue: Queue) -> Iterator[Queue]:
    """The same queue in another session."""
    with queue.another() as session:
        yield session


@pytest.fixture
def role(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """The name of a new role without any rights."""
    name = f"role_{next(_numbers)}"
    connection.execute(f"create role {name}".encode())
    yield name
    connection.execute("reset role")
    connection.execute(f"drop owned by {name}".encode())
    connection.execute(f"drop role {name}".encode())
