"""Connection strings: checked and shown without ever repeating a password.

libpq's own messages about a malformed string quote pieces of it (`missing "=" after "hunter2"`), and a password that
was not percent-encoded ends up in the host, the port or the database of a URL that libpq still accepts. So neither
libpq's words nor the parts of such a URL are shown.
"""

from __future__ import annotations

import re
from typing import Final

import psycopg
from psycopg import conninfo as psycopg_conninfo
from psycopg import pq

from pgtasks.errors import did_you_mean

UNREADABLE: Final = "(a connection string that cannot be read)"
LIBPQ_ENVIRONMENT: Final = "(PG… environment variables, read by libpq)"

_SHOWN: Final = ("service", "host", "hostaddr", "port", "dbname", "user")
_URL_SCHEMES: Final = ("postgresql://", "postgres://")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9_]+)?://")
_UNKNOWN_OPTION: Final = re.compile(r'invalid (?:connection option|URI query parameter):? "([^"]*)"')


def redact(conninfo: str) -> str:
    """Return what a connection string connects to, without its password or any other secret.

    Args:
        conninfo: A URL or `key=value` pairs as libpq reads them; it may be malformed.

    Returns:
        Service, host, port, database and user as `key=value` pairs, as far as the string names them.

    >>> redact("postgresql://ada:secret@db.example.com:5433/shop?sslpassword=x")
    'host=db.example.com port=5433 dbname=shop user=ada'
    >>> redact("host=db.example.com password=secret")
    'host=db.example.com'
    >>> redact("postgresql://ada:p@ss/word@db.example.com/shop")
    '(a connection string that cannot be read)'
    """
    if not conninfo.strip():
        return LIBPQ_ENVIRONMENT
    if _may_show_password(conninfo):
        return UNREADABLE
    try:
        parts = psycopg_conninfo.conninfo_to_dict(conninfo)
    except (psycopg.Error, ValueError):
        return UNREADABLE
    shown = {key: str(parts[key]) for key in _SHOWN if parts.get(key)}
    if any("://" in value or "password" in value.lower() for value in shown.values()):
        return UNREADABLE  # a whole connection string inside of one of its own values
    return _as_pairs(shown) or LIBPQ_ENVIRONMENT


def check_conninfo(conninfo: str) -> None:
    """Raise a `ValueError` that says what is wrong with a connection string, without quoting it.

    The sentence continues one that begins with the setting's source: "DATABASE_URL: is not …".
    """
    scheme = _SCHEME.match(conninfo)
    if scheme and not conninfo.startswith(_URL_SCHEMES):
        if scheme[1] in {"postgresql", "postgres"} and scheme[2]:
            raise ValueError(f"is a URL for SQLAlchemy; write 'postgresql://…', without {scheme[2]!r}")
        raise ValueError(f"is a {scheme[1]} URL; PostgreSQL's begin with 'postgresql://'")
    if "\0" in conninfo:
        raise ValueError("contains a NUL character")
    if _has_stray_delimiter(conninfo):
        raise ValueError(
            "has an '@' or '/' in its user name or password; write them as '%40' and '%2F', or use key=value pairs"
        )
    try:
        psycopg_conninfo.conninfo_to_dict(conninfo)
    except (psycopg.Error, ValueError) as error:
        raise ValueError(_explain_malformed(conninfo, str(error))) from None


def _explain_malformed(conninfo: str, libpq_message: str) -> str:
    if unknown := _UNKNOWN_OPTION.search(libpq_message):
        known = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
        # The unknown word itself may be a part of a password: only its nearest known neighbour is named.
        return f"has an option that PostgreSQL does not know{did_you_mean(unknown[1], known)}"
    if "percent-encoded" in libpq_message:
        return "has a '%' that is not followed by two hexadecimal digits; write '%' itself as '%25'"
    if conninfo.startswith(_URL_SCHEMES):
        return "is not a URL that PostgreSQL understands; write 'postgresql://user:password@host:port/database'"
    return "is neither a URL ('postgresql://user@host/database') nor key=value pairs ('host=… dbname=…')"


def _has_stray_delimiter(conninfo: str) -> bool:
    """Tell whether a URL's parts were moved by an '@' or '/' that should have been percent-encoded."""
    if not conninfo.startswith(_URL_SCHEMES):
        return False
    authority, _, path = conninfo.split("://", 1)[1].partition("/")
    server = authority.partition("@")[2].partition("?")[0]
    return "@" in server or "@" in path.partition("?")[0]


def _may_show_password(conninfo: str) -> bool:
    """Tell the same of every '@' that is not where a URL has its only one; showing too little does no harm."""
    if not conninfo.startswith(_URL_SCHEMES):
        return False
    authority, _, path = conninfo.split("://", 1)[1].partition("/")
    return authority.count("@") > 1 or "@" in path


def _as_pairs(parts: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in parts.items())
