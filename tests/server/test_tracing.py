"""A real OTLP receiver gets a span for each traced request, in its caller's trace, and nothing that was not asked for."""

import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server.errors import SettingsError
from server.observed import TracedCall
from server.tracing import STOP_SECONDS, Tracer, open_tracer
from tests.otlp import Receiver, receiving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def call(code: str = "OK") -> TracedCall:
    """A call that came 10 ms ago, waited 2 ms from its first and was computed in 5 ms."""
    now = time.perf_counter()
    start = now - 0.010
    return TracedCall("churn", 3, "canary", code, 2, start, now, start + 0.001, start + 0.003, start + 0.008, 16)


def attributes(span: Span) -> dict[str, str | int]:
    """The attributes of a span."""
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


def milliseconds(span: Span) -> float:
    """How long it was."""
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def test_span_joins_the_trace_of_its_caller_and_says_what_the_request_went_through(receiver: Receiver) -> None:
    tracer = open_tracer(receiver.address, 0)
    tracer.record([("user-agent", "grpc"), ("traceparent", SAMPLED), ("tracestate", "vendor=1"), ("some-bin", b"\x00")], call())
    tracer.stop()
    by_name = {span.name: span for span in receiver.spans}
    span = by_name.pop("inference.GRPCInferenceService/ModelInfer")
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (TRACE, PARENT, Span.SPAN_KIND_SERVER)
    assert span.trace_state == "vendor=1"
    assert attributes(span) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "tidegate.model": "churn",
        "tidegate.version": 3,
        "tidegate.arm": "canary",
        "tidegate.rows": 2,
        "tidegate.batch_rows": 16,
    }
    assert milliseconds(span) == pytest.approx(10, abs=0.01)
    assert abs(time.time() - span.end_time_unix_nano / 1e9) < 60
    assert {name: round(milliseconds(child), 2) for name, child in by_name.items()} == {"queue": 2, "compute": 5}
    assert {child.parent_span_id for child in by_name.values()} == {span.span_id}
    assert receiver.resource["service.name"] == "tidegate"


def test_caller_that_does_not_sample_is_respected(receiver: Receiver) -> None:
    tracer = open_tracer(receiver.address, 1)
    tracer.record([("traceparent", UNSAMPLED)], call())
    tracer.stop()
    assert receiver.spans == []


@pytest.mark.parametrize("metadata", [[], [("traceparent", "nonsense")]])
def test_share_decides_where_the_caller_does_not(receiver: Receiver, metadata: list[tuple[str, str]]) -> None:
    for share, spans in ((0.0, 0), (1.0, 3 * 50)):
        tracer = open_tracer(receiver.address, share)
        for _ in range(50):
            tracer.record(metadata, call())
        tracer.stop()
        assert len(receiver.spans) == spans


def test_refusal_before_the_queue_is_one_span_and_only_faults_of_the_server_are_errors(receiver: Receiver) -> None:
    tracer = open_tracer(receiver.address, 1)
    now = time.perf_counter()
    tracer.record([], TracedCall("", 0, "", "NOT_FOUND", 0, now - 0.001, now))
    tracer.record([], TracedCall("churn", 3, "stable", "INTERNAL", 1, now - 0.001, now))
    tracer.stop()
    by_code = {attributes(span)["rpc.grpc.status_code"]: span.status.code for span in receiver.spans}
    assert by_code == {5: Status.STATUS_CODE_UNSET, 13: Status.STATUS_CODE_ERROR}


def test_receiver_that_is_not_there_holds_up_neither_a_request_nor_the_end() -> None:
    tracer = Tracer("http://127.0.0.1:9", 1)
    begin = time.perf_counter()
    for _ in range(500):
        tracer.record([], call())
    assert time.perf_counter() - begin < 5
    tracer.stop()
    assert time.perf_counter() - begin < STOP_SECONDS + 5


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://host", "http://"])
def test_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="--tracing"):
        open_tracer(endpoint, 1)
