"""Serves metrics at `/metrics`, and nothing else, by HTTP on a thread. What they are is the business of `metrics` and `drift_metrics`."""

import gzip
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder, gzip_accepted
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from server.exposition import Exposition

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class MetricsServer:
    """Answers on a socket that listens already; until `start`, who connects waits."""

    def __init__(self, collectors: Iterable[Collector], expositions: Sequence[Exposition], listener: socket.socket) -> None:
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
        self._server.set_app(_metrics(registry, expositions))
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


def _metrics(registry: CollectorRegistry, expositions: Sequence[Exposition]) -> "WSGIApplication":
    """Answers GET and HEAD at the one path, in the format the caller asks for."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there is only /metrics here\n"]
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b"GET and HEAD are all there is\n"]
        body, content_type = _body(registry, expositions, environ.get("HTTP_ACCEPT", ""))
        headers = [("Content-Type", content_type)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            # The quickest level: such text shrinks to a twentieth as it is, and the caller waits.
            body = gzip.compress(body, compresslevel=1)
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    return answer


def _body(registry: CollectorRegistry, expositions: Sequence[Exposition], accept: str) -> tuple[bytes, str]:
    encode, content_type = choose_encoder(accept)
    openmetrics = content_type.startswith("application/openmetrics-text")
    end = b"# EOF\n" if openmetrics else b""
    text = "".join(family.text(openmetrics=openmetrics) for exposition in expositions for family in exposition.families())
    return encode(registry).removesuffix(end) + text.encode() + end, content_type
