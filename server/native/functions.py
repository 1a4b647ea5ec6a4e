"""What the Rust side asks of Python: answers to every call but inference, who calls, and why an inference is refused.

Each runs on a thread that may wait for the interpreter, never on the one that serves. Refusals go back as values.
"""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import grpc

from server import grpc_errors, reflection
from server.errors import RequestError
from server.grpcio_transport import router, tensors
from server.grpcio_transport.pipeline import MODEL_INFER
from server.grpcio_transport.tensors import Form
from server.guard import Guard
from server.health import SERVICE as HEALTH
from server.health import Health
from server.native.credentials import Holder, holder
from server.observed import Observers, TracedCall
from server.routing import RoutingTable
from server.security import Security
from server.service import Call
from server.tls import names_in

Metadata: TypeAlias = list[tuple[str, bytes]]
Refusal: TypeAlias = tuple[int, str, str, float | None]
"""Number of the gRPC status, reason, text, and in how many seconds to try again."""


class _Caller(NamedTuple):
    """See `server.guard.Caller`."""

    metadata: Sequence[tuple[str, str | bytes]]
    peer: str
    peer_names: Sequence[str]


class Functions:
    """Refusals are explained by the table that Rust routes by."""

    def __init__(self, calls: Mapping[str, Call], security: Security, observers: Observers) -> None:
        # Health is answered by Rust; only what it cannot make sense of comes here, to be refused.
        health = Health().check
        self._calls = {**calls, f"/{HEALTH}/Check": health, f"/{HEALTH}/Watch": health, reflection.PATH: reflection.answering()}
        self._guard = Guard(security)
        self._observers = observers
        self._table = RoutingTable()
        self._installing = threading.Lock()

    @contextlib.contextmanager
    def installing(self, table: RoutingTable) -> Iterator[None]:
        """`table` is what is served at the end of the block, in which Rust is told; until then nothing is explained."""
        with self._installing:
            yield
            self._table = table

    def call(self, path: str, message: bytes, metadata: Metadata, peer: str, names: Sequence[str]) -> bytes | Refusal:
        """Answer a call that is no inference."""
        call = self._calls.get(path)
        if call is None:
            return grpc.StatusCode.UNIMPLEMENTED.value[0], "", f"no method {path[:100]}", None
        try:
            self._guard.check_call(path, message, _Caller(_texts(metadata), peer, names))
            return call(message)
        except RequestError as error:
            if path == reflection.PATH:  # a stream, which goes on
                return reflection.refusal(_refusal(error)[0], str(error))
            return _refusal(error)

    def explain(self, message: bytes, name: str) -> Refusal | None:
        """Why the reference refuses an inference that Rust could not read, route or fit; None if, by now, it does not.

        `name` is its id, which Rust gives to one that has none; it is empty if that was not read.
        """
        with self._installing:
            table = self._table
        try:
            request = tensors.decode(message)
            version = router.pick(table, request.model, request.label, request.parameters.routing_key or name).version
            Form(version.model, version.number, version.signature, batchable=version.batchable).rows(request)
        except RequestError as error:
            return _refusal(error)
        return None

    def authenticate(self, metadata: Metadata, peer: str, names: Sequence[str]) -> Holder | Refusal:
        """Who sends an inference, and what Rust may know of him from now on."""
        try:
            return holder(self._guard.credential(MODEL_INFER, _Caller(_texts(metadata), peer, names)))
        except RequestError as error:
            return _refusal(error)

    def permit(self, model: str, metadata: Metadata, peer: str, names: Sequence[str]) -> Refusal | None:
        """Whether there may be an inference of `model`, where Rust has found no right to it."""
        caller = _Caller(_texts(metadata), peer, names)
        try:
            self._guard.check(self._guard.principal(MODEL_INFER, caller), MODEL_INFER, model, caller)
        except RequestError as error:
            return _refusal(error)
        return None

    def admit(self, path: str, metadata: Metadata, peer: str, names: Sequence[str]) -> Refusal | None:
        """Whether a stream may begin."""
        try:
            self._guard.check_stream(path, _Caller(_texts(metadata), peer, names))
        except RequestError as error:
            return _refusal(error)
        return None

    def traced(
        self, metadata: Metadata, model: str, version: int, arm: str, code: str, rows: int, seconds: Sequence[float], batch_rows: int
    ) -> None:
        """Tell of an inference that is over: `seconds` are how long ago it began, and how long it took, waited and ran."""
        if self._observers.call is None:
            return
        ago, took, queued, ran = seconds
        began = time.perf_counter() - ago
        call = TracedCall(model, version, arm, code, rows, began, began + took, batch_rows=batch_rows)
        if batch_rows:
            # What is left of the whole was spent on decoding before it, and on encoding after it.
            waited = began + max(0.0, took - queued - ran) / 2
            times = (waited, waited + queued, waited + queued + ran)
            call = TracedCall(model, version, arm, code, rows, began, began + took, *times, batch_rows)
        self._observers.call(_texts(metadata), call)


def names_of(certificate: bytes) -> Sequence[str]:
    """The names in the certificate, in DER, that a peer was verified by."""
    return names_in(ssl.DER_cert_to_PEM_cert(certificate).encode())


def _texts(metadata: Metadata) -> list[tuple[str, str | bytes]]:
    return [(key, value if key.endswith("-bin") else value.decode("ascii", "replace")) for key, value in metadata]


def _refusal(error: RequestError) -> Refusal:
    return grpc_errors.STATUS[type(error)].value[0], error.reason, str(error), error.retry_seconds
