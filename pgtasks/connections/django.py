"""Django's database connections, of its PostgreSQL backend with psycopg 3.

Outside of `atomic()`, psycopg's connection is in autocommit mode. Inside it is not, and a transaction begins with the
first statement; Django sends COMMIT at the end, whosever statement that was. What Django has around its own statements,
such as `execute_wrapper` and `assertNumQueries`, does not see ours.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pgtasks.connections.refusing import OTHER_DRIVER, refusal
from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    import psycopg


def of_wrapper(wrapper: Any, *, notify: bool) -> psycopg.Connection[Any]:
    """Return the connection of a `DatabaseWrapper`, or of what passes all on to that of the running thread."""
    where = f"Django's connection {wrapper.alias!r}"
    if wrapper.vendor != "postgresql":
        raise refusal(
            wrapper,
            f"{where} is to {wrapper.vendor}, and jobs are added to PostgreSQL: leave it out, and add the job in "
            "`transaction.on_commit`",
        )
    if wrapper.Database.__name__ != "psycopg":
        way = ", which Django takes by itself where it is installed"
        raise refusal(wrapper, f"{where} is on {wrapper.Database.__name__}: {OTHER_DRIVER.format(way=way)}")
    if wrapper.in_atomic_block and wrapper.closed_in_transaction:
        raise JobOptionError(f"{where} is closed, and its transaction lost: leave the `atomic()` block and begin again")
    if wrapper.needs_rollback:
        raise JobOptionError(
            f"the transaction of {where} has failed, and takes no jobs any more: leave the `atomic()` block, or have "
            "each part that may fail in one of its own"
        )
    try:
        wrapper.validate_thread_sharing()
    except sys.modules["django.db"].DatabaseError as error:
        raise JobOptionError(f"{where} is another thread's: use the `django.db.connection` of this one") from error
    wrapper.ensure_connection()
    raw: psycopg.Connection[Any] = wrapper.connection
    return raw
