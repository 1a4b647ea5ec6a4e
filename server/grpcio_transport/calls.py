"""Every call the server answers, by its path: which code answers it, and on which thread. ModelInfer itself is in `pipeline`."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from server.grpcio_transport import direct
from server.grpcio_transport.auth import Guard
from server.grpcio_transport.pipeline import Pipeline
from server.health import SERVICE as HEALTH
from server.health import Health
from server.service import INFERENCE, MONITORING, Call
from tidegate_protos import inference_pb2 as pb
from tidegate_protos.pool import POOL

CONTROL_THREADS = 4
"""For the calls that are no inference: whatever they do, no inference waits for it."""


class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds what answers a call."""

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a path; None, which is UNIMPLEMENTED, if there is none."""
        return self._methods.get(handler_call_details.method)


def methods(pipeline: Pipeline, health: Health, calls: Mapping[str, Call], guard: Guard) -> dict[str, Any]:
    """What answers each path, behind its rule."""
    guarded = {**calls, f"/{HEALTH}/Check": health.check}
    return {
        **{path: grpc.unary_unary_rpc_method_handler(guard.guarded(path, call)) for path, call in guarded.items()},
        f"/{INFERENCE}/ModelInfer": direct.handler(pipeline.begin),
        f"/{INFERENCE}/ModelStreamInfer": direct.stream_handler(pipeline.begin, _stream_answer, _stream_refusal),
        f"/{HEALTH}/Watch": direct.push_handler(health.watch),
        **_reflection(guard),
    }


def _stream_answer(data: bytes) -> bytes:
    return pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(data)).SerializeToString()


def _stream_refusal(status: grpc.Status) -> bytes:
    return pb.ModelStreamInferResponse(error_message=f"[{status.code.name}] {status.details}").SerializeToString()


class _Collector:
    """Stands where generated code expects a server, and keeps what it registers."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, _: object) -> None:
        """The same handlers come by the other method as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def _reflection(guard: Guard) -> dict[str, Any]:
    # Reflection answers from our private pool, which has to know the services of others that we serve.
    POOL.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    POOL.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    names = (INFERENCE, MONITORING, HEALTH, reflection.SERVICE_NAME)
    collector = _Collector()
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.ReflectionServicer(names, pool=POOL), collector)
    # A stream of reflection holds its thread as long as it is open: those are not the threads of the other calls.
    threads = ThreadPoolExecutor(2, "reflection")

    def on_own_threads(path: str, handler: Any) -> Any:
        behavior = guard.guarded_stream(path, handler.stream_stream)
        behavior.experimental_thread_pool = threads  # type: ignore[attr-defined]
        return grpc.stream_stream_rpc_method_handler(behavior, handler.request_deserializer, handler.response_serializer)

    return {path: on_own_threads(path, handler) for path, handler in collector.methods.items()}
