"""What one request may cost: a few bytes from a caller are never much work or much memory, and nothing of a request is kept."""

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from tests import models
from tests.contracts.transport.calls import in_flight, raw_floats, raw_request, reason
from tests.contracts.transport.encoding import field, group
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import Daemon, daemon, wait_until
from tests.rpcs import rpcs
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
MEBIBYTE = 1 << 20
MANY = 40
RPCS = dict(rpcs())
PLAIN = {
    "texts": (models.texts(), Signature((TensorSpec("x", "BYTES", (-1,)),), (TensorSpec("y", "BYTES", (-1,)),))),
    "wide": (models.wide(), Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """A daemon of its own: others must not pay for what is done to it."""
    folder = tmp_path_factory.mktemp(f"amplified-{transport}")
    registry = create_registry(str(folder / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    for name, (onnx, signature) in PLAIN.items():
        registry.register(name, {bundle.MODEL: onnx, bundle.SIGNATURE: signature.encode()}, {}, actor="test", reason="plain")
    for name in ("scaled", *PLAIN):
        registry.promote(name, 1, to="production", actor="test", reason="first")
    with daemon(folder, {"registry": str(folder / "registry")}) as running:
        for name in ("scaled", *PLAIN):
            running.wait_for(name)
        yield running


@pytest.fixture(autouse=True)
def unharmed(running: Daemon) -> Iterator[None]:
    yield
    assert (raw_floats(running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()
    wait_until(lambda: in_flight(running) == 0, "requests are in flight for ever", 5)
    assert "exc_info" not in running.program.log.read_text()


def send(running: Daemon, data: bytes) -> grpc.RpcError | None:
    """The refusal, if it is one."""
    with grpc.insecure_channel(running.address, [("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.unary_unary(MODEL_INFER, bytes, bytes)(data, timeout=20)
        except grpc.RpcError as error:
            return error
    return None


def refusal(running: Daemon, request: pb.ModelInferRequest) -> str:
    error = send(running, request.SerializeToString())
    assert error is not None
    assert (error.code(), reason(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_MISMATCH")
    return error.details() or ""


def resident(running: Daemon) -> int:
    """Bytes of memory of the daemon's process."""
    pages = int(Path(f"/proc/{running.program.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def long_name(number: int) -> pb.ModelInferRequest:
    """Refused, and what refuses it names the input."""
    request = pb.ModelInferRequest(model_name="scaled", raw_input_contents=[b""])
    request.inputs.add(name=f"{number}" + "n" * (4 * MEBIBYTE), datatype="FP32", shape=[1])
    return request


def long_text(number: int) -> pb.ModelInferRequest:
    """Answered with what it holds."""
    return raw_request("texts", {"x": np.array([f"{number}" + "t" * (4 * MEBIBYTE)], object)})


@pytest.mark.parametrize("request_of", [long_name, long_text])
def test_nothing_of_a_long_request_is_kept(running: Daemon, request_of: Callable[[int], pb.ModelInferRequest]) -> None:
    for number in range(3):  # what a daemon takes once is not what requests leave
        send(running, request_of(-number).SerializeToString())
    before = resident(running)
    for number in range(1, MANY):
        send(running, request_of(number).SerializeToString())
    wait_until(lambda: resident(running) - before < 48 * MEBIBYTE, f"memory grew from {before >> 20} MiB and stayed", 10)


@pytest.mark.parametrize("shape", [[1 << 40, 0], [1 << 62, 0], [1 << 20, 1 << 20, 0], [0, 1 << 40]], ids=str)
def test_sizes_without_a_value_are_bounded(running: Daemon, shape: list[int]) -> None:
    request = pb.ModelInferRequest(model_name="wide", raw_input_contents=[b""])
    request.inputs.add(name="x", datatype="FP32", shape=shape)
    assert "without values" in refusal(running, request)


def test_rows_of_no_width_are_answered(running: Daemon) -> None:
    answer = running.stub.ModelInfer(raw_request("wide", {"x": np.zeros((5, 0), np.float32)}), timeout=5)
    assert raw_floats(answer).shape == (5, 0)


def packed(field: str, datatype: str, number: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="scaled")
    contents = request.inputs.add(name="numeric", datatype=datatype, shape=[number]).contents
    getattr(contents, field).extend(np.ones(number).astype(datatype.lower().replace("fp", "float")).tolist())
    return request


@pytest.mark.parametrize(("field", "datatype"), [("fp32_contents", "FP32"), ("int64_contents", "INT64"), ("bool_contents", "BOOL")])
def test_typed_numbers_by_the_million_are_refused_before_they_are_objects(running: Daemon, field: str, datatype: str) -> None:
    # A shape or datatype that does not fit, as here, would be named instead if they had been made objects.
    assert "raw_input_contents" in refusal(running, packed(field, datatype, 5_000_000))


def test_a_group_does_not_hide_what_stands_behind_it(running: Daemon) -> None:
    error = send(running, group(100) + packed("fp32_contents", "FP32", 5_000_000).SerializeToString())
    assert error is not None
    assert "raw_input_contents" in (error.details() or "")


@pytest.mark.parametrize("inside", [5, 6, 100], ids=["input", "output", "group"])
def test_fields_nobody_knows_count_wherever_they_are(running: Daemon, inside: int) -> None:
    fields = b"\xf8\x7f\x00" * 300_000
    nested = group(inside, fields) if inside == 100 else field(inside, fields)
    error = send(running, raw_request("wide", {"x": np.zeros((1, 1), np.float32)}).SerializeToString() + nested)
    assert error is not None
    assert "fields" in (error.details() or "")


@pytest.mark.parametrize("of", ["inputs", "outputs"])
def test_names_by_the_thousand_are_compared_in_no_time(running: Daemon, of: str) -> None:
    if of == "inputs":
        names = [field(5, field(1, b"%05x" % number), field(2, b"INT8"), field(3, b"\x00")) for number in range(60_000)]
    else:
        names = [field(6, field(1, b"%05x" % number)) for number in range(120_000)]
    began = time.monotonic()
    error = send(running, field(1, b"wide") + b"".join(names))
    assert error is not None
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert time.monotonic() - began < 6


def test_as_many_typed_numbers_as_may_be_are_answered(running: Daemon) -> None:
    rows = np.arange(1_000_000, dtype=np.float32)[:999_999].reshape(-1, 3)
    request = pb.ModelInferRequest(model_name="scaled")
    request.inputs.add(name="numeric", datatype="FP32", shape=rows.shape).contents.fp32_contents.extend(rows.ravel().tolist())
    with grpc.insecure_channel(running.address, [("grpc.max_receive_message_length", -1)]) as channel:
        data = channel.unary_unary(MODEL_INFER, bytes, bytes)(request.SerializeToString(), timeout=20)
    answer = pb.ModelInferResponse.FromString(data)
    assert np.array_equal(np.array(answer.outputs[0].contents.fp32_contents, np.float32), rows.ravel() * 2)


@pytest.mark.parametrize("path", [path for path in RPCS if not path.endswith("Infer") and RPCS[path].input_type.fields])
def test_a_question_of_megabytes_is_not_read(running: Daemon, path: str) -> None:
    method = RPCS[path]
    with grpc.insecure_channel(running.address) as channel:
        open_call: Any = getattr(
            channel, f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        )
        data = b"\xfa\x7f\x00" * (2 * MEBIBYTE)  # fields that nobody knows
        try:
            answers = open_call(path)(iter([data]) if method.client_streaming else data, timeout=10)
            answer = next(answers) if method.server_streaming else answers
        except grpc.RpcError as error:
            assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
            return
    refused = reflection_pb2.ServerReflectionResponse.FromString(answer).error_response
    assert refused.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_texts_count_with_what_they_take_in_memory(running: Daemon, tmp_path: Path) -> None:
    folder = running.program.log.parent / "registry"
    request = raw_request("texts", {"x": np.array(["t"] * 100, object)})
    assert request.ByteSize() < 600
    with daemon(tmp_path, {"registry": str(folder), "max-queue-bytes": "20000", "max-queue-delay": "1"}) as patient:
        patient.wait_for("texts")
        calls = [patient.stub.ModelInfer.future(request, timeout=10) for _ in range(10)]
        refused = [error for call in calls if isinstance(error := call.exception(), grpc.RpcError)]
    assert {reason(error) for error in refused} == {"QUEUE_FULL"}
    assert 6 <= len(refused) <= 9
