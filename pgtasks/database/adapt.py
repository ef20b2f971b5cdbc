"""Loaders that no stored value can break.

psycopg's own loaders raise for values that PostgreSQL is happy with: a `timestamptz` of `infinity` or of the year
12000, JSON that Python cannot hold. One such row would fail the whole batch it came in. These loaders leave JSON as
bytes, to be decoded job by job, and bring times into the range that a datetime has.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from psycopg import DataError
from psycopg.adapt import Loader
from psycopg.types.datetime import TimestamptzLoader

if TYPE_CHECKING:
    from psycopg.abc import Buffer
    from psycopg.adapt import AdaptersMap

EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


class RawJsonLoader(Loader):
    """`json` and `jsonb` as the bytes the server sent."""

    def load(self, data: Buffer) -> bytes:
        """Return the text, not decoded."""
        return bytes(data)


class ClampedTimestamptzLoader(TimestamptzLoader):
    """`timestamptz` as a datetime, clamped to the years 1 to 9999."""

    def load(self, data: Buffer) -> dt.datetime:
        """Return an aware datetime for any timestamptz."""
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST


def register_loaders(context: Any) -> None:
    """Make `context` (a connection or a cursor) read with the loaders of this module."""
    adapters: AdaptersMap = context.adapters
    adapters.register_loader("json", RawJsonLoader)
    adapters.register_loader("jsonb", RawJsonLoader)
    adapters.register_loader("timestamptz", ClampedTimestamptzLoader)
