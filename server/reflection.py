"""Server reflection: what services there are and what their messages look like, as `grpc.reflection.v1alpha` says it. Transport-neutral."""

from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from server.health import SERVICE as HEALTH
from server.messages import parse
from server.service import INFERENCE, MONITORING, Call
from tidegate_protos.pool import POOL

PATH = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"


def answering() -> Call:
    """What answers a message of the stream."""
    # Reflection answers from our private pool, which has to know the services of others that we serve.
    POOL.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    POOL.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
    servicer: Any = reflection.ReflectionServicer((INFERENCE, MONITORING, HEALTH, reflection.SERVICE_NAME), pool=POOL)

    def call(data: bytes) -> bytes:
        request = parse(reflection_pb2.ServerReflectionRequest, data)
        return bytes(next(servicer.ServerReflectionInfo(iter([request]), None)).SerializeToString())

    return call


def refusal(code: int, text: str) -> bytes:
    """What answers a message that is refused, by the number of a gRPC status: the stream itself goes on."""
    error = reflection_pb2.ErrorResponse(error_code=code, error_message=text)
    return bytes(reflection_pb2.ServerReflectionResponse(error_response=error).SerializeToString())
