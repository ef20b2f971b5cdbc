"""The fixtures that all other tests stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from tests.servers import Server


@pytest.mark.every_postgres
def test_an_empty_database_is_on_the_version_asked_for(server: Server, empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        assert connection.info.server_version // 10000 == server.version
        assert connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone() == (0,)


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_a_database_has_the_schema_under_the_name_asked_for(connection: psycopg.Connection, schema: str) -> None:
    found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
    assert found is not None


@pytest.mark.parametrize("turn", [1, 2])
def test_what_one_test_writes_the_next_does_not_see(connection: psycopg.Connection, schema: str, turn: int) -> None:
    assert turn in {1, 2}
    connection.execute(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(schema, "left_over")))


def test_a_server_that_was_restarted_serves_the_next_test(server: Server) -> None:
    server.drop_database(server.create_database())
    server.cluster.restart("immediate")
    server.drop_database(server.create_database())
