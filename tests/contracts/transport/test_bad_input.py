"""Whatever bytes come, they are answered or refused with a status that says why, and the daemon's log has no traceback."""

from collections.abc import Iterator
from functools import cache

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.transport.calls import in_flight, raw_floats, raw_request, reason
from tests.contracts.transport.mutations import ROW, VALID, mutations
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import Daemon, wait_until
from tidegate_protos import inference_pb2 as pb

LIMIT = 64 << 20
LONG = "n" * 1_000_000
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""INTERNAL is MODEL_FAILED: the bytes of a text may be no text."""


@pytest.fixture(autouse=True)
def unharmed(served: Daemon) -> Iterator[None]:
    yield
    assert (raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()
    wait_until(lambda: in_flight(served) == 0, "requests are in flight for ever", 5)
    log = served.program.log.read_text()
    assert "Traceback" not in log
    assert "exc_info" not in log


@cache
def channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)])


def send(served: Daemon, data: bytes, **options: object) -> grpc.RpcError | None:
    """The refusal, if it is one."""
    try:
        channel(served.address).unary_unary(MODEL_INFER, bytes, bytes)(data, timeout=20, **options)  # type: ignore[arg-type]
    except grpc.RpcError as error:
        return error
    return None


def refusal(served: Daemon, request: pb.ModelInferRequest, **options: object) -> grpc.RpcError:
    error = send(served, request.SerializeToString(), **options)
    assert error is not None
    assert len((error.details() or "").encode()) <= 1024
    return error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=mutations())
def test_mutated_request_is_answered_or_refused_with_a_reason(served: Daemon, data: bytes) -> None:
    if error := send(served, data):
        assert error.code() in REFUSALS, error
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED or reason(error)
        assert len((error.details() or "").encode()) <= 1024


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60), method=st.sampled_from(["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ServerLive"]))
def test_any_bytes_to_any_call_are_answered_or_refused(served: Daemon, data: bytes, method: str) -> None:
    try:
        channel(served.address).unary_unary(f"/inference.GRPCInferenceService/{method}", bytes, bytes)(data, timeout=20)
    except grpc.RpcError as error:
        assert error.code() in REFUSALS, error


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_message_over_the_limit_is_refused_however_it_is_packed(served: Daemon, compression: grpc.Compression) -> None:
    error = refusal(served, raw_request("scaled", {"numeric": np.zeros((6_000_000, 3), np.float32)}), compression=compression)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_message_is_answered(served: Daemon, compression: grpc.Compression) -> None:
    answer = served.stub.ModelInfer(raw_request("scaled", {"numeric": np.tile(ROW, (1000, 1))}), timeout=10, compression=compression)
    assert (raw_floats(answer) == np.tile(ROW * 2, (1000, 1))).all()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([1] * 65, "65 dimensions"),
        ([1] * 1_000_000, "1000000 dimensions"),
        ([2**62, 4], "expects"),
        ([2**63 - 1] * 30, "expects"),
        ([0, 2**62], "without values"),
        ([0, 2**62, 2**62], "without values"),
        ([-1, 3], "negative"),
        ([-(2**63)], "negative"),
        ([0, 3], "at least one row"),
        ([], "expects 4 bytes|got FP32"),
        ([3], "expects FP32"),
        ([1, 0], "expects"),
    ],
    ids=str,
)
def test_shape_that_cannot_be_is_refused(served: Daemon, shape: list[int], says: str) -> None:
    request = pb.ModelInferRequest(model_name="scaled")
    request.inputs.add(name="numeric", datatype="FP32", shape=shape)
    request.raw_input_contents.append(b"" if 0 in shape else ROW.tobytes())
    error = refusal(served, request)
    assert (error.code(), reason(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_MISMATCH")
    assert any(part in (error.details() or "") for part in says.split("|")), error.details()


def test_output_asked_for_twice_is_refused(served: Daemon) -> None:
    request = raw_request("scaled", {"numeric": ROW})
    for _ in range(2):
        request.outputs.add(name="scaled")
    assert refusal(served, request).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_request_without_inputs_is_refused(served: Daemon) -> None:
    error = refusal(served, pb.ModelInferRequest(model_name="scaled"))
    assert "expected inputs ['numeric'], got []" in str(error.details())


@pytest.mark.parametrize("place", ["model", "version", "input", "datatype", "output", "parameter"])
def test_name_of_a_megabyte_is_refused_in_a_kilobyte(served: Daemon, place: str) -> None:
    request = raw_request("scaled", {"numeric": ROW})
    match place:
        case "model":
            request.model_name = LONG
        case "version":
            request.model_version = LONG
        case "input":
            request.inputs[0].name = LONG
        case "datatype":
            request.inputs[0].datatype = LONG
        case "output":
            request.outputs.add(name=LONG)
        case _:
            request.parameters["tidegate_" + LONG].bool_param = True
    error = refusal(served, request)
    assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


def test_id_of_a_megabyte_is_echoed(served: Daemon) -> None:
    assert served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}, prediction_id=LONG), timeout=10).id == LONG


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_name_of_a_megabyte_is_refused_by_every_call(served: Daemon, method: str) -> None:
    kind = getattr(pb, f"{method}Request")
    with pytest.raises(grpc.RpcError) as caught:
        getattr(served.stub, method)(kind(name=LONG, version=LONG), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert len((caught.value.details() or "").encode()) <= 1024


def test_watch_of_bytes_that_are_no_request_is_refused(served: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(channel(served.address).unary_stream("/grpc.health.v1.Health/Watch", bytes, bytes)(b"\xff\xff", timeout=10))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_request_do_not_end_a_stream(served: Daemon) -> None:
    stream = channel(served.address).stream_stream("/inference.GRPCInferenceService/ModelStreamInfer", bytes, bytes)
    answers = [pb.ModelStreamInferResponse.FromString(answer) for answer in stream(iter([b"\xff\xff", VALID[0]]), timeout=10)]
    assert "[INVALID_ARGUMENT] the request is not a ModelInferRequest" in answers[0].error_message
    assert (raw_floats(answers[1].infer_response) == ROW * 2).all()


def test_answer_over_the_limit_is_refused_and_the_connection_goes_on(served: Daemon) -> None:
    request = raw_request("classifier", {"numeric": ROW, "categorical": np.array([["red"]], object)})
    request.id = "i" * (LIMIT - request.ByteSize() - 5)
    assert request.ByteSize() == LIMIT
    assert refusal(served, request).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
