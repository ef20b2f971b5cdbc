"""Runs a file of SQL on the database that pgtasks uses; on a database of your own, psql does the same."""

import sys
from pathlib import Path

from pgtasks import current_app

with current_app().connection() as connection:
    connection.execute(Path(sys.argv[1]).read_bytes())
