"""Spans of ModelInfer, sent by OTLP over gRPC. Recorded after the answer, from what was measured anyway: nothing of it is on the path.

The only module that imports OpenTelemetry, and itself imported only where tracing is asked for. A span joins the trace of its caller (W3C
traceparent), who also decides whether there is one; without a caller's decision a share of the requests is traced.
"""

import logging
import os
import random
import re
import socket
import threading
import time
from importlib.metadata import version as distribution_version
from urllib.parse import urlsplit

import grpc
import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.errors import SettingsError
from server.observed import Metadata, TracedCall

STOP_SECONDS = 5.0
_SERVICE, _METHOD = "inference.GRPCInferenceService", "ModelInfer"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Codes that make a server's span an error, by OpenTelemetry's conventions for RPC"""

_log = structlog.get_logger("tidegate.tracing")


class Tracer:
    """Makes spans and hands them to a thread that sends them; what cannot be sent in time is lost, and said in the log."""

    def __init__(self, endpoint: str, share: float) -> None:
        self._share = share
        resource = Resource.create(
            {
                "service.name": "tidegate",
                "service.version": distribution_version("tidegate"),
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("tidegate")
        self._propagator = TraceContextTextMapPropagator()

    def record(self, metadata: Metadata, call: TracedCall) -> None:
        """Make the spans of a call, if it is to be traced; `metadata` is what the caller sent."""
        carrier = {key: value for key, value in metadata if key in {"traceparent", "tracestate"} and isinstance(value, str)}
        if not self._is_traced(carrier.get("traceparent", "")):
            return
        offset = time.time() - time.perf_counter()

        def nanoseconds(moment: float) -> int:
            return round((moment + offset) * 1e9)

        span = self._tracer.start_span(
            f"{_SERVICE}/{_METHOD}",
            self._propagator.extract(carrier),
            SpanKind.SERVER,
            attributes=_attributes(call),
            start_time=nanoseconds(call.started),
        )
        inside = set_span_in_context(span)
        for name, start, end in (("queue", call.queued, call.computing), ("compute", call.computing, call.computed)):
            if start is not None and end is not None:
                self._tracer.start_span(name, inside, start_time=nanoseconds(start)).end(nanoseconds(end))
        if call.code in _SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR))
        span.end(nanoseconds(call.ended))

    def stop(self) -> None:
        """Send what is left, and end; a receiver that is not there is given up."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)

    def _is_traced(self, traceparent: str) -> bool:
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return random.random() < self._share  # noqa: S311 -- a sample, no secret
        return bool(int(match[1], 16) & 1)


class _ToLog(logging.Handler):
    """What OpenTelemetry says in the standard library's log becomes a line of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.warning("tracing", said=record.getMessage())


def open_tracer(endpoint: str, share: float) -> Tracer:
    """A tracer that sends to `endpoint`; whether anybody listens there is not asked.

    Raises:
        SettingsError: if it is no http:// or https:// URL of a host.
    """
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise SettingsError(f"--tracing {endpoint}: give the URL of an OTLP receiver that speaks gRPC, e.g. http://127.0.0.1:4317")
    log = logging.getLogger("opentelemetry")
    log.propagate = False
    if not log.handlers:
        log.addHandler(_ToLog(logging.WARNING))
    return Tracer(endpoint, share)


def _attributes(call: TracedCall) -> dict[str, str | int]:
    return {
        "rpc.system": "grpc",
        "rpc.service": _SERVICE,
        "rpc.method": _METHOD,
        "rpc.grpc.status_code": grpc.StatusCode[call.code].value[0],
        "tidegate.model": call.model,
        "tidegate.version": call.version,
        "tidegate.arm": call.arm,
        "tidegate.rows": call.rows,
        "tidegate.batch_rows": call.batch_rows,
    }
