"""A small server of the Open Inference Protocol that is not ours: it echoes every tensor, and refuses what a test tells it to refuse.

It listens on a real port and answers through the generated servicer, so that a client under test goes all the way through gRPC.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidegate_protos import inference_pb2 as oip
from tidegate_protos import inference_pb2_grpc, monitoring_pb2, monitoring_pb2_grpc


@dataclass(frozen=True)
class Refusal:
    """An error the server is to answer with."""

    code: grpc.StatusCode
    message: str = "refused by the test"
    reason: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Version:
    """One version of an echoing model."""

    inputs: Sequence[tuple[str, str, Sequence[int]]]
    numeric: Sequence[str] = ()
    categorical: Sequence[str] = ()

    def properties(self) -> dict[str, str]:
        """What a server of ours would say of it."""
        if not (self.numeric or self.categorical):
            return {}
        return {
            "tidegate.columns.numeric": json.dumps(list(self.numeric)),
            "tidegate.columns.categorical": json.dumps(list(self.categorical)),
            "tidegate.classes": '["no", "yes"]',
            "tidegate.positive": "yes",
        }


PACKED = (("numeric", "FP32", (-1, 2)), ("categorical", "BYTES", (-1, 1)))


@dataclass
class Stranger:
    """Its behaviour, which a test may change while it serves, and what it has seen."""

    models: dict[str, dict[str, Version]]
    route: dict[str, str]
    refusals: deque[Refusal] = field(default_factory=deque)
    """Answered first, one per inference or batch of labels."""
    delay: float = 0.0
    """Seconds before an inference is answered."""
    typed: bool = False
    """Answer in typed contents."""
    swap_on_infer: dict[str, str] = field(default_factory=dict)
    """Becomes the route when the next inference arrives."""
    inferences: list[oip.ModelInferRequest] = field(default_factory=list)
    feedback: list[monitoring_pb2.RecordFeedbackRequest] = field(default_factory=list)
    remaining: list[float] = field(default_factory=list)
    """Seconds of deadline each inference came with."""
    metadata_requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def find(self, model: str, version: str, context: grpc.ServicerContext) -> tuple[str, Version]:
        """The number and the version asked for."""
        number = version or self.route.get(model, "")
        if number not in self.models.get(model, {}):
            refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no version {number!r} of {model!r}", "MODEL_UNKNOWN"))
        return number, self.models[model][number]


class _Inference(inference_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    def ServerLive(self, request: oip.ServerLiveRequest, context: grpc.ServicerContext) -> oip.ServerLiveResponse:  # noqa: ARG002, N802
        return oip.ServerLiveResponse(live=True)

    def ServerReady(self, request: oip.ServerReadyRequest, context: grpc.ServicerContext) -> oip.ServerReadyResponse:  # noqa: ARG002, N802
        return oip.ServerReadyResponse(ready=False)

    def ModelReady(self, request: oip.ModelReadyRequest, context: grpc.ServicerContext) -> oip.ModelReadyResponse:  # noqa: N802
        self._stranger.find(request.name, request.version, context)
        return oip.ModelReadyResponse(ready=True)

    def ServerMetadata(  # noqa: N802
        self,
        request: oip.ServerMetadataRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> oip.ServerMetadataResponse:
        return oip.ServerMetadataResponse(name="stranger", version="0", extensions=["echo"])

    def ModelMetadata(self, request: oip.ModelMetadataRequest, context: grpc.ServicerContext) -> oip.ModelMetadataResponse:  # noqa: N802
        stranger = self._stranger
        stranger.metadata_requests.append((request.name, request.version))
        _, version = stranger.find(request.name, request.version, context)
        tensors = [oip.ModelMetadataResponse.TensorMetadata(name=name, datatype=kind, shape=shape) for name, kind, shape in version.inputs]
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=list(stranger.models[request.name]),
            platform="echo",
            inputs=tensors,
            outputs=tensors,
            properties=version.properties(),
        )

    def ModelInfer(self, request: oip.ModelInferRequest, context: grpc.ServicerContext) -> oip.ModelInferResponse:  # noqa: N802
        stranger = self._stranger
        stranger.inferences.append(request)
        stranger.arrived.set()
        stranger.remaining.append(context.time_remaining())
        stranger.headers.append(dict(context.invocation_metadata()))
        ended: Any = context  # its status is not among the published types
        context.add_callback(lambda: None if ended.code() else stranger.cancelled.set())
        stranger.route.update(stranger.swap_on_infer)
        if stranger.refusals:
            refuse(context, stranger.refusals.popleft())
        time.sleep(stranger.delay)
        number, _ = stranger.find(request.model_name, request.model_version, context)
        return _echo(request, number, typed=stranger.typed)


class _Monitoring(monitoring_pb2_grpc.MonitoringServiceServicer):
    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    def RecordFeedback(  # noqa: N802
        self, request: monitoring_pb2.RecordFeedbackRequest, context: grpc.ServicerContext
    ) -> monitoring_pb2.RecordFeedbackResponse:
        self._stranger.feedback.append(request)
        if self._stranger.refusals:
            refuse(context, self._stranger.refusals.popleft())
        refused = [monitoring_pb2.RefusedLabel(index=1, reason="no such class")]
        return monitoring_pb2.RecordFeedbackResponse(recorded=len(request.labels) - 1, duplicate=2, refused=1, refusals=refused)

    def GetDrift(  # noqa: N802
        self,
        request: monitoring_pb2.GetDriftRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> monitoring_pb2.GetDriftResponse:
        feature = monitoring_pb2.FeatureDrift
        ordered = feature(name="income", kind="numeric", bins=["<=1", ">1"], observed=[3, 4], reference=[5, 6], ks=0.0, psi=0.5)
        unordered = feature(name="purpose", kind="categorical", bins=["a"], observed=[7], reference=[11], drifted=True)
        return monitoring_pb2.GetDriftResponse(model=request.model, version="2", rows=7, features=[ordered, unordered])


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    """End the call as google.rpc's error model has it."""
    details: list[AnyMessage] = []
    if refusal.reason:
        details.append(_pack(error_details_pb2.ErrorInfo(reason=refusal.reason, domain="test")))
    if refusal.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(int(refusal.retry_after * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message, details=details)
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort raises")


@contextmanager
def serving(stranger: Stranger, port: int = 0) -> Iterator[Stranger]:
    """The server on a free port of the loopback, until the block ends."""
    server = grpc.server(ThreadPoolExecutor(8))
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Inference(stranger), server)  # type: ignore[no-untyped-call]
    monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server(_Monitoring(stranger), server)  # type: ignore[no-untyped-call]
    stranger.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield stranger
    finally:
        server.stop(None).wait()


def _pack(message: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _echo(request: oip.ModelInferRequest, number: str, *, typed: bool) -> oip.ModelInferResponse:
    response = oip.ModelInferResponse(model_name=request.model_name, model_version=number, id=request.id)
    wanted = {output.name for output in request.outputs}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if wanted and tensor.name not in wanted:
            continue
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if typed:
            _fill(output, raw)
        else:
            response.raw_output_contents.append(raw)
    return response


def _fill(output: oip.ModelInferResponse.InferOutputTensor, raw: bytes) -> None:
    # tritonclient's reading of the raw bytes, so that ours is not checked against itself.
    import numpy as np  # noqa: PLC0415
    from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype  # noqa: PLC0415 - slow, and few tests need it

    fields = {
        "FP32": "fp32_contents",
        "BYTES": "bytes_contents",
        "INT8": "int_contents",
        "UINT64": "uint64_contents",
        "BOOL": "bool_contents",
    }
    values = deserialize_bytes_tensor(raw) if output.datatype == "BYTES" else np.frombuffer(raw, triton_to_np_dtype(output.datatype))
    getattr(output.contents, fields[output.datatype]).extend(values.tolist())
