"""Every RPC that a daemon serves, by the descriptors of its services. No test lives here."""

from collections.abc import Iterator

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tidegate_protos import inference_pb2, monitoring_pb2


def services() -> list[ServiceDescriptor]:
    """Every service."""
    files = (inference_pb2, monitoring_pb2, health_pb2, reflection_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def rpcs() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every RPC, by its path."""
    for service in services():
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", method
