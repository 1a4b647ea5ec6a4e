"""Serves what collectors collect at `/metrics`, and nothing else, by HTTP on a thread. What is collected is `metrics`' business."""

import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class MetricsServer:
    """Answers on a socket that listens already; until `start`, who connects waits."""

    def __init__(self, collectors: Iterable[Collector], listener: socket.socket) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        for collector in collectors:
            registry.register(collector)
        host, port = listener.getsockname()[:2]
        self._server = ThreadingWSGIServer((host, port), _Quiet, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.server_name, self._server.server_port = host, port
        self._server.setup_environ()
        self._server.set_app(_only_metrics(make_wsgi_app(registry)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """A scrape is no event."""


def _only_metrics(app: "WSGIApplication") -> "WSGIApplication":
    """`app` under its one path, and HEAD, which it does not know itself."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there is only /metrics here\n"]
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start_response)
        list(app({**environ, "REQUEST_METHOD": "GET"}, start_response))
        return []

    return answer
