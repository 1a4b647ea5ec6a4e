"""The messages of the six calls are those of the public specification, field by field, as tritonclient's own copy has them."""

import json
import subprocess
import sys

import pytest
from google.protobuf.descriptor import Descriptor

from tidegate_protos import inference_pb2, monitoring_pb2
from tidegate_protos.pool import POOL

CALLS = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
# Fields of the specification that tritonclient's copy has not got.
ONLY_OURS = {"inference.ModelMetadataResponse.properties"}

# Runs here and, as text, in the other process: both descriptions come of the same code.
DESCRIBE = """
def describe(descriptor, found):
    for field in descriptor.fields:
        kind = field.message_type or field.enum_type
        oneof = field.containing_oneof.name if field.containing_oneof else ""
        found[field.full_name] = [field.number, field.type, bool(field.is_repeated), kind.full_name if kind else "", oneof]
        if field.message_type and field.message_type.full_name + "." not in "".join(found):
            describe(field.message_type, found)
"""
THEIRS = """
import json, sys
from tritonclient.grpc import service_pb2
found, calls = {}, {}
for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
    if method.name in json.loads(sys.argv[1]):
        calls[method.name] = [method.input_type.full_name, method.output_type.full_name]
        describe(method.input_type, found)
        describe(method.output_type, found)
print(json.dumps([calls, found]))
"""


def _describe(descriptor: Descriptor, found: dict[str, list[object]]) -> None:
    scope: dict[str, object] = {}
    exec(DESCRIBE, scope)  # noqa: S102 - the text above, so that both processes run the same
    describe = scope["describe"]
    assert callable(describe)
    describe(descriptor, found)


@pytest.fixture(scope="module")
def theirs() -> tuple[dict[str, list[str]], dict[str, list[object]]]:
    command = [sys.executable, "-c", DESCRIBE + THEIRS, json.dumps(sorted(CALLS))]
    calls, fields = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    return calls, fields


def test_calls_have_the_names_and_messages_of_the_specification(theirs: tuple[dict[str, list[str]], dict[str, list[object]]]) -> None:
    service = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == "inference.GRPCInferenceService"
    assert {method.name: [method.input_type.full_name, method.output_type.full_name] for method in service.methods} == theirs[0]
    assert theirs[0].keys() == CALLS


def test_fields_have_the_names_numbers_types_and_labels_of_the_specification(
    theirs: tuple[dict[str, list[str]], dict[str, list[object]]],
) -> None:
    ours: dict[str, list[object]] = {}
    for method in inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        _describe(method.input_type, ours)
        _describe(method.output_type, ours)
    extra = {name for name in ours if name in ONLY_OURS or name.startswith("inference.ModelMetadataResponse.PropertiesEntry.")}
    assert extra > ONLY_OURS
    assert {name: field for name, field in ours.items() if name not in extra} == theirs[1]


def test_the_private_pool_holds_every_service_and_not_the_default_one() -> None:
    assert POOL.FindServiceByName("inference.GRPCInferenceService").file.name == "inference.proto"
    assert POOL.FindServiceByName("tidegate.v1.MonitoringService").file.name == "tidegate/v1/monitoring.proto"
    script = (
        "from google.protobuf import descriptor_pool; import tidegate_protos.inference_pb2, tidegate_protos.monitoring_pb2\n"
        "for name in ('inference.proto', 'tidegate/v1/monitoring.proto'):\n"
        "    try: descriptor_pool.Default().FindFileByName(name)\n"
        "    except KeyError: print('absent')"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split() == ["absent"] * 2


def test_an_absent_ks_is_not_a_ks_of_zero() -> None:
    silent, zero = monitoring_pb2.FeatureDrift(), monitoring_pb2.FeatureDrift(ks=0.0)
    assert not monitoring_pb2.FeatureDrift.FromString(silent.SerializeToString()).HasField("ks")
    assert monitoring_pb2.FeatureDrift.FromString(zero.SerializeToString()).HasField("ks")
