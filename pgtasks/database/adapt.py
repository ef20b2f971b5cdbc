"""Loaders that no stored value can break.

psycopg's own loaders raise for values that PostgreSQL is happy with: a `timestamptz` of `infinity` or of the year
12000, JSON that Python cannot hold. One such row would fail the whole batch it came in. These loaders leave JSON as
bytes, to be decoded job by job, and bring times into the range that a datetime has.

They read the binary format, which does not depend on the session's `DateStyle` and `TimeZone` (psycopg cannot read
text times in any style but ISO), and takes a fifth of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryLoader

from pgtasks.job import time_at

if TYPE_CHECKING:
    import datetime as dt

    from psycopg.abc import AdaptContext, Buffer


class RawJsonLoader(Loader):
    """`json` as the text the server sent, in UTF-8."""

    format = Format.BINARY

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        encoding = self.connection.info.encoding if self.connection is not None else "utf-8"
        # "ascii" is what psycopg calls SQL_ASCII: the server does not know the encoding either.
        self._encoding = None if encoding in ("utf-8", "ascii") else encoding

    def load(self, data: Buffer) -> bytes:
        """Return the text, not decoded."""
        raw = bytes(data)
        return raw if self._encoding is None else raw.decode(self._encoding).encode()


class RawJsonbLoader(RawJsonLoader):
    """`jsonb` as the text the server sent, in UTF-8."""

    def load(self, data: Buffer) -> bytes:
        """Return the text, without the format's version number in front, not decoded."""
        return super().load(bytes(data)[1:])


class ClampedTimestamptzLoader(Loader):
    """`timestamptz` as a datetime in UTC, clamped to the years 1 to 9999."""

    format = Format.BINARY

    def load(self, data: Buffer) -> dt.datetime:
        """Return an aware datetime for any timestamptz."""
        return time_at(int.from_bytes(data, "big", signed=True))


ADAPTERS = AdaptersMap(psycopg.adapters)
"""psycopg's adapters with the loaders of this module: whatever a caller has set on a connection does not matter."""
ADAPTERS.register_loader("json", RawJsonLoader)
ADAPTERS.register_loader("jsonb", RawJsonbLoader)
ADAPTERS.register_loader("timestamptz", ClampedTimestamptzLoader)

UNREAD_TIMES = AdaptersMap(ADAPTERS)
"""The same, but times stay what the server sends: whole microseconds since 2000. For rows of which few are read."""
UNREAD_TIMES.register_loader("timestamptz", Int8BinaryLoader)
