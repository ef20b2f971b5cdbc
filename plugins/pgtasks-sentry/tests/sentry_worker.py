"""Workers that report to a server, and that server."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentry_sdk.envelope import Envelope

from tests.waiting import wait_until
from tests.worker.conftest import LONG, ROOT

if TYPE_CHECKING:
    from tests.worker.conftest import StartWorker, Worker

FOLDER = Path(__file__).parent
PATH = ":".join(map(str, (ROOT, FOLDER.parent, FOLDER)))
"""Where workers find the plugin and the application."""


class Endpoint:
    """A server that takes envelopes, as Sentry's does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_request(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/1"

    def items(self, kind: str) -> list[Any]:
        return [
            item.payload.json
            for body in list(self.bodies)
            for item in Envelope.deserialize(body).items
            if item.type == kind
        ]

    @property
    def events(self) -> list[Any]:
        return self.items("event")

    @property
    def transactions(self) -> list[Any]:
        return self.items("transaction")

    def wait_for_events(self, number: int) -> list[Any]:
        wait_until(lambda: len(self.events) >= number, LONG, f"{number} events")
        return self.events

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Reported:
    """Runs workers that report to the endpoint."""

    def __init__(self, start: StartWorker, endpoint: Endpoint) -> None:
        self._start = start
        self._endpoint = endpoint

    def run(self, *options: str, env: dict[str, str] | None = None, **settings: str) -> Worker:
        worker = self.start("--once", *options, env=env, **settings)
        assert worker.wait() == 0, worker.text
        assert worker.records("hook_failed") == []
        return worker

    def start(self, *options: str, env: dict[str, str] | None = None, **settings: str) -> Worker:
        settings = {"dsn": self._endpoint.dsn, **settings}
        environment = {
            "PYTHONPATH": PATH,
            "PGTASKS_PLUGINS": "pgtasks_sentry",
            **{f"PGTASKS_PLUGIN_SENTRY__{name.upper()}": value for name, value in settings.items() if value},
            **(env or {}),
        }
        return self._start(*options, modules=("sentry_jobs",), env=environment)
