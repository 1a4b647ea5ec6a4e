"""A real HTTP proxy on the loopback between a client and an object store that fails as it is told. No test lives here."""

import contextlib
import http.client
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

_Answer: TypeAlias = tuple[int, dict[str, str], bytes]
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Fault:
    """What happens to one request: whether the store gets it, and what the client gets."""

    lands: bool = False
    status: int = 0
    """The answer the client gets instead of the store's; 0 for the store's own."""
    code: str = ""
    """The code of S3 in that answer."""
    drops: str = ""
    """The header that the store does not get."""
    cut: float = 1.0
    """How much of the answer is sent before the connection is reset."""
    after: float = 0.0
    """How many seconds pass before the client gets anything."""
    meanwhile: Callable[[], object] = lambda: None
    """What others do before the client gets anything."""


def answers(status: int, code: str = "") -> Fault:
    """The request does not reach the store; the client gets this status."""
    return Fault(status=status, code=code)


RESET = Fault(cut=0)
"""The request does not reach the store; the connection is reset."""


def landed(fault: Fault) -> Fault:
    """The same for the client, but the store gets the request and obeys."""
    return replace(fault, lands=True)


class FaultProxy:
    """Forwards to the store at 127.0.0.1:`port` what no fault is planned for; `requests` is what came."""

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        self._target = port
        self._plans: list[tuple[str, str, deque[Fault]]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def plan(self, method: str, *faults: Fault, on: str = "") -> None:
        """What happens to the next requests of this method whose path and query contain `on`: one fault each."""
        self._plans.append((method, on, deque(faults)))

    def count(self, method: str, on: str = "") -> int:
        """How many requests of this method came whose path and query contain `on`."""
        return sum(request.startswith(f"{method} ") and on in request for request in self.requests)

    def close(self) -> None:
        """Refuse connections from now on, and reset those that are open at their next request."""
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, method: str, path: str) -> Fault | None:
        """What is planned for a request that came."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            if self._closed:
                return RESET
            plan = next((faults for planned, on, faults in self._plans if planned == method and on in path and faults), None)
            return plan.popleft() if plan else None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Answer:
        """The store's answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._target, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@contextlib.contextmanager
def faulty(port: int) -> Iterator[FaultProxy]:
    """A proxy that is closed at the end."""
    proxy = FaultProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


class _Server(ThreadingHTTPServer):
    proxy: FaultProxy
    daemon_threads = True  # a client keeps its connections open

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gave up waiting is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        fault = self.server.proxy.fault(self.command, self.path) or Fault(lands=True)
        answer: _Answer = (fault.status, {}, f"<Error><Code>{fault.code}</Code></Error>".encode())
        if fault.lands:
            headers = {name: value for name, value in self.headers.items() if name.lower() != fault.drops}
            own = self.server.proxy.forward(self.command, self.path, headers, body)
            answer = answer if fault.status else own
        fault.meanwhile()
        time.sleep(fault.after)
        self._answer(*answer, fault.cut)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 -- what the base class calls

    def _answer(self, status: int, headers: dict[str, str], content: bytes, cut: float) -> None:
        if cut > 0:
            self.send_response(status)
            length = headers.get("content-length", "0") if self.command == "HEAD" else str(len(content))
            for name, value in headers.items():
                if name not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("content-length", length)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content[: int(len(content) * cut)])
        if cut < 1:
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # close() waits for the files made of the socket, and ends it politely first
