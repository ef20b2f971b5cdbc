"""The boundary to psycopg: connections, operations, loaders and what database errors mean."""

from pgtasks.database.errors import explain
from pgtasks.database.operation import Operation, Row, run, run_async, run_within, transaction_with
from pgtasks.database.pools import Database

__all__ = ["Database", "Operation", "Row", "explain", "run", "run_async", "run_within", "transaction_with"]
