"""Writing a comment: what the application does when somebody has pressed the button."""

from typing import Any

import psycopg

from notifier.tasks import Comment, mail, notify, rebuild_index

READERS = {"ada@example.com": ["Ada's laptop", "Ada's phone"], "grace@example.com": ["Grace's tablet"]}


def write(connection: psycopg.Connection[Any], article: str, author: str, text: str) -> None:
    """Store a comment and have its readers told, in the transaction that is open on the connection."""
    connection.execute(
        "insert into notifier.comments (article, author, text) values (%s, %s, %s)", [article, author, text]
    )
    for reader in READERS:
        # One mail with all comments, a second after the first of them at the latest.
        mail.batch([Comment(reader, author, text)], key=f"mail:{reader}", delay=1, connection=connection)
    # Once all is quiet: no comment for a second and a half.
    rebuild_index.debounce(
        rebuild_index.args(article=article), key=f"index:{article}", delay=1.5, connection=connection
    )


def light_up(connection: psycopg.Connection[Any]) -> None:
    """Have all devices light up."""
    devices = [device for devices in READERS.values() for device in devices]
    notify.defer(devices, connection=connection)
