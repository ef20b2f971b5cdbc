from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtasks.settings import redact
from pgtasks.settings.conninfo import check_conninfo


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///shop.db", "is a sqlite URL; PostgreSQL's begin with 'postgresql://'"),
        ("postgresql+psycopg://u:secret@h/d", "is a URL for SQLAlchemy; write 'postgresql://…', without '+psycopg'"),
        ("postgresql://u:secr@et@h/d", "has an '@' or '/' in its user name or password"),
        ("postgresql://u:secr/et@h/d", "has an '@' or '/' in its user name or password"),
        ("postgresql://u:secret%@h/d", "has a '%' that is not followed by two hexadecimal digits"),
        ("postgresql://u:secret@h/d?sslmod=x", "has an option that PostgreSQL does not know; did you mean 'sslmode'?"),
        ("host=h pasword=secret", "has an option that PostgreSQL does not know; did you mean 'password'?"),
        ("secret", "is neither a URL ('postgresql://user@host/database') nor key=value pairs"),
        ("host=h password='secret", "is neither a URL ('postgresql://user@host/database') nor key=value pairs"),
    ],
)
def test_a_malformed_connection_string_is_told_without_quoting_it(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}") as caught:
        check_conninfo(url)
    assert "secr" not in str(caught.value)


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("postgresql://ada:secret@[::1]:5433/shop", "host=::1 port=5433 dbname=shop user=ada"),
        ("postgresql://ada@db:1,db2:2/shop?password=secret", "host=db,db2 port=1,2 dbname=shop user=ada"),
        ("postgresql:///shop?host=/run/postgresql", "host=/run/postgresql dbname=shop"),
        ("host=db user=ada@corp password='a secret' sslpassword=secret", "host=db user=ada@corp"),
        ("service=shop password=secret", "service=shop"),
        ("password=secret", "(PG… environment variables, read by libpq)"),
        ("", "(PG… environment variables, read by libpq)"),
        ("postgresql://ada:sec@ret@db/shop", "(a connection string that cannot be read)"),
        ("postgresql://ada:1/secret@db/shop", "(a connection string that cannot be read)"),
        ("dbname=postgresql://ada:secret@db/shop", "(a connection string that cannot be read)"),
        ("host=db password=a secret", "(a connection string that cannot be read)"),
    ],
)
def test_a_redacted_connection_string_shows_where_it_leads(conninfo: str, shown: str) -> None:
    assert redact(conninfo) == shown


@given(password=st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1), end=st.sampled_from(["", "?x=y"]))
def test_no_part_of_a_password_is_shown_whatever_it_does_to_its_url(password: str, end: str) -> None:
    secret = f"<{password}>"
    shown = redact(f"postgresql://ada:{secret}@db.example.com/shop{end}")
    assert "<" not in shown
    assert ">" not in shown
