"""A small Open Inference Protocol server by gRPC, so that what the control plane forwards can be seen. No test lives here.

It answers with the tensors it was sent, under the same names, and with the parameters it saw. A model named after a gRPC status, such as
`not-found`, is refused with that status.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tidegate_protos import inference_pb2 as pb
from tidegate_protos import inference_pb2_grpc as pb_grpc
from tidegate_protos import monitoring_pb2, monitoring_pb2_grpc

REASON = "TOLD_TO"
RETRY_MILLISECONDS = 1500
STATUSES = {code.name.lower().replace("_", "-"): code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


class _Inference(pb_grpc.GRPCInferenceServiceServicer):
    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:  # noqa: ARG002, N802
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:  # noqa: ARG002, N802
        return pb.ServerReadyResponse(ready=True)

    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:  # noqa: N802
        _refuse_if_told(request.name, context)
        return pb.ModelReadyResponse(ready=request.name != "asleep")

    def ServerMetadata(self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext) -> pb.ServerMetadataResponse:  # noqa: ARG002, N802
        return pb.ServerMetadataResponse(name="echo", version="1", extensions=["model_repository"])

    def ModelMetadata(self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:  # noqa: N802
        _refuse_if_told(request.name, context)
        tensor = pb.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 2])
        versions = [request.version or "7"]
        return pb.ModelMetadataResponse(name=request.name, versions=versions, platform="echo", inputs=[tensor], properties={"key": "value"})

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:  # noqa: N802
        _refuse_if_told(request.model_name, context)
        answer = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version or "7", id=request.id)
        for name, value in request.parameters.items():
            answer.parameters[name].CopyFrom(value)
        wanted = {output.name for output in request.outputs}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if not wanted or tensor.name in wanted:
                output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                for name, value in tensor.parameters.items():
                    output.parameters[name].CopyFrom(value)
                answer.raw_output_contents.append(raw)
        return answer


class _Monitoring(monitoring_pb2_grpc.MonitoringServiceServicer):
    def GetDrift(self, request: monitoring_pb2.GetDriftRequest, context: grpc.ServicerContext) -> monitoring_pb2.GetDriftResponse:  # noqa: N802
        _refuse_if_told(request.model, context)
        feature = monitoring_pb2.FeatureDrift(
            name="income",
            kind="numeric",
            bins=["1", "inf", "missing"],
            observed=[5, 3, 0],
            reference=[4, 4, 0],
            psi=0.25,
            p_value=0.01,
            drifted=True,
            persistent=True,
        )
        return monitoring_pb2.GetDriftResponse(
            model=request.model, version=request.version or "7", rows=8, features=[feature], started=100.0, ended=160.0, uncounted=["age"]
        )


@contextlib.contextmanager
def echo_server() -> Iterator[str]:
    """A running server; yields its address."""
    server = grpc.server(ThreadPoolExecutor(4))
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(_Inference(), server)  # type: ignore[no-untyped-call]
    monitoring_pb2_grpc.add_MonitoringServiceServicer_to_server(_Monitoring(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def _refuse_if_told(model: str, context: grpc.ServicerContext) -> None:
    if (code := STATUSES.get(model)) is None:
        return
    retry = error_details_pb2.RetryInfo(
        retry_delay=duration_pb2.Duration(nanos=RETRY_MILLISECONDS % 1000 * 10**6, seconds=RETRY_MILLISECONDS // 1000)
    )
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=REASON, domain="test"))
    details[1].Pack(retry)
    context.abort_with_status(
        rpc_status.to_status(status_pb2.Status(code=code.value[0], message=f"told to answer {model}", details=details))
    )
