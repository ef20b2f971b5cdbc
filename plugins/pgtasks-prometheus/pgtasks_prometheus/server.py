"""The HTTP server: a thread of the supervisor's, so that a scrape holds up nothing else there."""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import MetricsHandler

from pgtasks.plugins import PluginError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger("pgtasks.plugins.prometheus")

_REQUEST_SECONDS: Final = 10
"""How long a request may take to arrive."""


class MetricsServer:
    """Answers `GET /metrics` until it is closed.

    Args:
        registry: what to answer with.
        address: where to listen.
        port: at which port; 0: at any free one.

    Raises:
        PluginError: it cannot listen there.
    """

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        try:
            self._server = _listen(registry, address, port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise PluginError(
                f"metrics cannot be served at {address}, port {port}: {reason}; choose another port or address in the "
                f"settings of plugin 'prometheus'"
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="pgtasks-prometheus", daemon=True).start()
        log.info("metrics_served", extra={"address": address, "port": self.port})

    def close(self) -> None:
        """Give the port back."""
        # What ends the thread waits for it to notice, for up to half a second; nobody here has to.
        threading.Thread(target=self._server.shutdown, daemon=True).start()
        self._server.server_close()


def _listen(registry: CollectorRegistry, address: str, port: int) -> _Server:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = found[0]
    _Server.address_family = family
    return _Server((str(place[0]), port), _Handler.factory(registry))


class _Handler(MetricsHandler):
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        if self.path.partition("?")[0] == "/metrics":
            super().do_GET()
        else:
            self.send_error(404, "ask for /metrics")


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name service who we are

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):  # whoever asked is gone
            log.error("metrics_failed", exc_info=error)
