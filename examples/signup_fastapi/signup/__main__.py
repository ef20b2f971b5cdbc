"""All of it in one go: a web server, a worker, people who sign up, and a mail server that is down at first."""

import asyncio
import json
import os
import queue
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from typing import Any

from aiosmtpd.controller import Controller

from pgtasks import current_app
from signup.database import create_tables, engine


class Mailbox:
    """Keeps the mails that the server takes."""

    def __init__(self) -> None:
        self.mails: queue.Queue[bytes] = queue.Queue()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        self.mails.put(envelope.content)
        return "250 taken"


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(*command: str) -> Iterator[None]:
    """Run a Python program for as long as a block lasts."""
    process = subprocess.Popen([sys.executable, "-m", *command])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return what `condition()` returns, once it is true."""
    end = time.monotonic() + 60
    while not (value := condition()):
        if time.monotonic() > end:
            sys.exit("it takes too long")
        time.sleep(0.05)
    return value


def sign_up(url: str, email: str, name: str) -> str | None:
    """Send the form, and return what the server answers; None: it does not."""
    body = json.dumps({"email": email, "name": name}).encode()
    request = urllib.request.Request(f"{url}/users", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return f"{response.status} {response.reason}"
    except urllib.error.HTTPError as refusal:
        return f"{refusal.code} {json.load(refusal)['detail']}"
    except urllib.error.URLError:
        return None


def failed_attempt() -> str | None:
    """Return what the mail's job has failed with, if it has."""
    return next((job.last_error for job in current_app().jobs.list(task="send_welcome").jobs), None)


async def prepare() -> None:
    """Make the tables."""
    await create_tables()
    await engine.dispose()


def main() -> None:
    """Sign up, twice."""
    web, smtp = free_port(), free_port()
    os.environ["SMTP_PORT"] = str(smtp)
    url = f"http://127.0.0.1:{web}"
    subprocess.run([sys.executable, "-m", "pgtasks", "migrate"], check=True)
    asyncio.run(prepare())
    with (
        running("uvicorn", "signup.web:app", "--port", str(web), "--log-level", "warning"),
        running("pgtasks", "worker", "signup.tasks", "--processes", "1", "--log-level", "error"),
    ):
        print("Ada signs up:", wait_for(lambda: sign_up(url, "ada@example.com", "Ada")))
        print("the mail server is down:", wait_for(failed_attempt))
        mailbox = Mailbox()
        mail_server = Controller(mailbox, hostname="127.0.0.1", port=smtp)
        mail_server.start()
        mail = message_from_bytes(mailbox.mails.get(timeout=60))
        print(f"it is up, and {mail['To']} has a mail: {mail['Subject']}")
        print("Ada signs up again:", sign_up(url, "ada@example.com", "Ada"))
        wait_for(lambda: not current_app().jobs.list().jobs)
        print("mails that are still to be sent: 0")
        mail_server.stop()


if __name__ == "__main__":
    main()
