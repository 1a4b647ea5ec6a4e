"""The wire contract: what every transport answers to well-formed and ill-formed calls."""

import json
from collections.abc import Callable

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.contracts.transport.calls import raw_bytes, raw_floats, raw_request, reason
from tests.daemons import Daemon
from tidegate_protos import inference_pb2 as pb

ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def refusal(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def infer(served: Daemon, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    answer = served.stub.ModelInfer(request, timeout=10)
    assert isinstance(answer, pb.ModelInferResponse)
    return answer


def test_server_calls_answer(served: Daemon) -> None:
    assert served.stub.ServerLive(pb.ServerLiveRequest(), timeout=5).live
    assert served.stub.ServerReady(pb.ServerReadyRequest(), timeout=5).ready
    assert served.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=5).name == "tidegate"


def test_metadata_name_columns_in_order(served: Daemon) -> None:
    metadata = served.stub.ModelMetadata(pb.ModelMetadataRequest(name="classifier"), timeout=5)
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("numeric", "FP32", [-1, 3]),
        ("categorical", "BYTES", [-1, 1]),
    ]
    assert json.loads(metadata.properties["tidegate.columns.numeric"]) == ["a", "b", "c"]
    assert json.loads(metadata.properties["tidegate.columns.categorical"]) == ["kind"]
    assert json.loads(metadata.properties["tidegate.classes"]) == ["no", "yes"]


@pytest.mark.parametrize(
    ("label", "factor", "version"), [("", 2, "1"), ("production", 2, "1"), ("1", 2, "1"), ("staging", 3, "2"), ("2", 3, "2")]
)
def test_version_label_picks_the_version_and_the_answer_says_which(served: Daemon, label: str, factor: float, version: str) -> None:
    answer = infer(served, raw_request("scaled", {"numeric": ROWS}, version=label))
    assert answer.model_version == version
    np.testing.assert_array_equal(raw_floats(answer), ROWS * factor)


def test_id_is_echoed_and_made_if_empty(served: Daemon) -> None:
    assert infer(served, raw_request("scaled", {"numeric": ROWS}, prediction_id="mine")).id == "mine"
    made = {infer(served, raw_request("scaled", {"numeric": ROWS})).id for _ in range(2)}
    assert len(made) == 2
    assert "" not in made


def test_typed_request_has_typed_answer_and_raw_has_raw(served: Daemon) -> None:
    request = pb.ModelInferRequest(model_name="scaled")
    request.inputs.add(name="numeric", datatype="FP32", shape=[2, 3]).contents.fp32_contents.extend(ROWS.ravel().tolist())
    answer = infer(served, request)
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == (ROWS * 2).ravel().tolist()
    assert not infer(served, raw_request("scaled", {"numeric": ROWS})).outputs[0].HasField("contents")


def test_requested_outputs_alone_are_answered(served: Daemon) -> None:
    request = raw_request("classifier", {"numeric": ROWS, "categorical": np.array([["red"], ["ümlaut"]], object)})
    request.outputs.add(name="echo")
    answer = infer(served, request)
    assert [output.name for output in answer.outputs] == ["echo"]
    assert answer.raw_output_contents[0] == raw_bytes(np.array(["red", "ümlaut"], object))


def test_model_without_rows_is_served_as_it_is(served: Daemon) -> None:
    answer = infer(served, raw_request("total", {"numbers": np.array([1, 2, 3, 4], np.float32)}))
    assert list(answer.outputs[0].shape) == []
    assert raw_floats(answer) == 10


@pytest.mark.parametrize(
    ("model", "version", "why", "says"),
    [
        ("nobody", "", "MODEL_UNKNOWN", "nobody"),
        ("", "", "MODEL_UNKNOWN", "served:"),
        ("scaled", "9", "VERSION_UNKNOWN", "version 9"),
        ("scaled", "3", "VERSION_UNKNOWN", "promote it first"),
        ("scaled", "nowhere", "VERSION_UNKNOWN", "nowhere"),
        ("lookup", "staging", "VERSION_UNKNOWN", "staging"),
        ("scaled", "²", "VERSION_UNKNOWN", "²"),
        ("scaled", "9" * 5000, "VERSION_UNKNOWN", "999"),
    ],
)
def test_unknown_model_version_or_stage_is_not_found(served: Daemon, model: str, version: str, why: str, says: str) -> None:
    for call in (
        lambda: served.stub.ModelInfer(raw_request(model, {"numeric": ROWS}, version=version), timeout=5),
        lambda: served.stub.ModelMetadata(pb.ModelMetadataRequest(name=model, version=version), timeout=5),
        lambda: served.stub.ModelReady(pb.ModelReadyRequest(name=model, version=version), timeout=5),
    ):
        error = refusal(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert reason(error) == why
        assert says in str(error.details())


def _no_input(request: pb.ModelInferRequest) -> None:
    del request.inputs[:], request.raw_input_contents[:]


def _both(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.fp32_contents.append(1.0)


def _set(**fields: object) -> Callable[[pb.ModelInferRequest], None]:
    def change(request: pb.ModelInferRequest) -> None:
        for name, value in fields.items():
            if name == "shape":
                request.inputs[0].shape[:] = value  # type: ignore[call-overload]
            else:
                setattr(request.inputs[0], name, value)

    return change


def _empty(request: pb.ModelInferRequest) -> None:
    request.inputs[0].shape[:] = [0, 3]
    request.raw_input_contents[0] = b""


def _unknown_output(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="nothing")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_set(name="numerics"), "expected inputs ['numeric'], got ['numerics']"),
        (_no_input, "expected inputs ['numeric'], got []"),
        (_set(datatype="FP64"), "expects 48 bytes, got 24"),
        (_set(datatype="INT32"), "expects FP32 [-1, 3] with columns a, b, c, got INT32 [2, 3]"),
        (_set(datatype="COMPLEX"), "'COMPLEX'"),
        (_set(shape=[2, 2]), "expects 16 bytes, got 24"),
        (_set(shape=[3, 2]), "got FP32 [3, 2]"),
        (_set(shape=[-2, -3]), "negative"),
        (_set(shape=[6]), "got FP32 [6]"),
        (_both, "one or the other"),
        (_empty, "the batch is empty"),
        (_unknown_output, "no output 'nothing'"),
    ],
)
def test_input_that_does_not_fit_is_refused_with_expected_and_got(
    served: Daemon, spoil: Callable[[pb.ModelInferRequest], None], says: str
) -> None:
    request = raw_request("scaled", {"numeric": ROWS})
    spoil(request)
    error = refusal(lambda: served.stub.ModelInfer(request, timeout=5))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "INPUT_MISMATCH"
    assert says in str(error.details())


def test_bytes_that_are_no_request_are_refused(served: Daemon) -> None:
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
        error = refusal(lambda: call(b"\xff\xff\xff", timeout=5))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_told_overall_and_by_model(served: Daemon) -> None:
    with grpc.insecure_channel(served.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "scaled"):
            assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        error = refusal(lambda: health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_every_service(served: Daemon) -> None:
    with grpc.insecure_channel(served.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        for service in database.get_services():
            assert database.FindFileContainingSymbol(service).name
        assert {"inference.GRPCInferenceService", "tidegate.v1.MonitoringService", "grpc.health.v1.Health"} <= set(database.get_services())


def test_tritonclient_works_unchanged(served: Daemon) -> None:
    with triton.InferenceServerClient(served.address) as client:
        assert client.is_server_live()
        assert client.is_model_ready("scaled")
        assert client.get_model_metadata("scaled", as_json=True)["name"] == "scaled"
        tensor = triton.InferInput("numeric", [2, 3], "FP32")
        tensor.set_data_from_numpy(ROWS)
        result = client.infer("scaled", [tensor], request_id="7", outputs=[triton.InferRequestedOutput("scaled")])
        np.testing.assert_array_equal(result.as_numpy("scaled"), ROWS * 2)
        assert result.get_response().id == "7"
        with pytest.raises(triton.InferenceServerException, match="no model 'nobody'"):
            client.infer("nobody", [tensor])
