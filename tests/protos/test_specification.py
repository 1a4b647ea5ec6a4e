"""Our messages are those of the public specification, name by name and number by number, as the copies in other clients have them.

Each copy is described in a process of its own, by the same text, because all of them declare `package inference`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tidegate_protos import inference_pb2, monitoring_pb2
from tidegate_protos.pool import POOL

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv" / "peers" / "bin" / "python"

OURS = "from tidegate_protos.inference_pb2 import DESCRIPTOR; files = [DESCRIPTOR]"
TRITON = "from tritonclient.grpc import model_config_pb2 as m, service_pb2 as s; files = [s.DESCRIPTOR, m.DESCRIPTOR]"
KSERVE = "from kserve.protocol.grpc.grpc_predict_v2_pb2 import DESCRIPTOR; files = [DESCRIPTOR]"

DESCRIBE = """
import json
calls, messages, fields, enums = {}, [], {}, {}
def describe_enum(enum):
    for value in enum.values:
        enums[enum.full_name + "." + value.name] = value.number
def describe(message):
    if not message.GetOptions().map_entry:
        messages.append(message.full_name)
    for field in message.fields:
        kind = field.message_type or field.enum_type
        oneof = field.containing_oneof.name if field.containing_oneof else ""
        fields[field.full_name] = [field.number, field.type, bool(field.is_repeated), kind.full_name if kind else "", oneof]
    for enum in message.enum_types:
        describe_enum(enum)
    for nested in message.nested_types:
        describe(nested)
for file in files:
    for enum in file.enum_types_by_name.values():
        describe_enum(enum)
    for message in file.message_types_by_name.values():
        describe(message)
    for service in file.services_by_name.values():
        for call in service.methods:
            calls[call.full_name] = [call.input_type.full_name, call.output_type.full_name, call.client_streaming, call.server_streaming]
print(json.dumps([calls, messages, fields, enums]))
"""

ONLY_OURS = {
    "ModelMetadataResponse.properties": "the specification has it, Triton's copy has not",
    "ModelMetadataResponse.PropertiesEntry.key": "the same",
    "ModelMetadataResponse.PropertiesEntry.value": "the same",
}

ONLY_TRITONS = {
    "tensors travel in messages, not by memory that client and server share": """
        GRPCInferenceService.SystemSharedMemoryStatus GRPCInferenceService.SystemSharedMemoryRegister
        GRPCInferenceService.SystemSharedMemoryUnregister GRPCInferenceService.CudaSharedMemoryStatus
        GRPCInferenceService.CudaSharedMemoryRegister GRPCInferenceService.CudaSharedMemoryUnregister
        SystemSharedMemoryStatusRequest SystemSharedMemoryStatusResponse SystemSharedMemoryRegisterRequest
        SystemSharedMemoryRegisterResponse SystemSharedMemoryUnregisterRequest SystemSharedMemoryUnregisterResponse
        CudaSharedMemoryStatusRequest CudaSharedMemoryStatusResponse CudaSharedMemoryRegisterRequest CudaSharedMemoryRegisterResponse
        CudaSharedMemoryUnregisterRequest CudaSharedMemoryUnregisterResponse""",
    "tracing and logging are set where the daemon is started, not by callers": """
        GRPCInferenceService.TraceSetting GRPCInferenceService.LogSettings
        TraceSettingRequest TraceSettingResponse LogSettingsRequest LogSettingsResponse""",
    "only the engine's run is timed, by batch; nothing is cached, no answer has parts": """
        InferStatistics.compute_input InferStatistics.compute_output InferStatistics.cache_hit InferStatistics.cache_miss
        InferBatchStatistics InferResponseStatistics ModelStatistics.batch_stats ModelStatistics.response_stats""",
    "memory is not known by model": "MemoryUsage ModelStatistics.memory_usage",
    "batches are whatever waits while the engine runs, and the order of answers is nobody's": """
        ModelDynamicBatching.preferred_batch_size ModelDynamicBatching.preserve_ordering
        ModelDynamicBatching.priority_queue_policy""",
    "the queue is bounded in rows, for all models together, and no request has a timeout unless it says so": """
        ModelQueuePolicy.default_timeout_microseconds ModelQueuePolicy.max_queue_size""",
    "the versions served are those that stages and routes name, never the latest or all": """
        ModelVersionPolicy.latest ModelVersionPolicy.all ModelVersionPolicy.Latest ModelVersionPolicy.All""",
    "an ONNX model has no sequences, ensembles, reshaping, warm-up, instances, backends or agents to set": """
        ModelSequenceBatching ModelEnsembling ModelTensorReshape BatchInput BatchOutput ModelInstanceGroup ModelRateLimiter
        ModelOptimizationPolicy ModelWarmup ModelOperations ModelTransactionPolicy ModelRepositoryAgents ModelResponseCache ModelMetrics
        ModelConfig.sequence_batching ModelConfig.ensemble_scheduling ModelConfig.batch_input ModelConfig.batch_output
        ModelConfig.instance_group ModelConfig.optimization ModelConfig.model_warmup ModelConfig.model_operations
        ModelConfig.model_transaction_policy ModelConfig.model_repository_agents ModelConfig.response_cache ModelConfig.model_metrics
        ModelConfig.runtime ModelConfig.default_model_filename ModelConfig.cc_model_filenames ModelConfig.metric_tags
        ModelInput.format ModelInput.reshape ModelInput.is_shape_tensor ModelInput.allow_ragged_batch ModelInput.optional
        ModelInput.is_non_linear_format_io ModelInput.Format.FORMAT_NONE ModelInput.Format.FORMAT_NHWC ModelInput.Format.FORMAT_NCHW
        ModelOutput.reshape ModelOutput.is_shape_tensor ModelOutput.is_non_linear_format_io""",
    "the names of the classes stand in the metadata, in no file": "ModelOutput.label_filename",
    "BF16 has no type in numpy": "DataType.TYPE_BF16",
}

ONLY_KSERVES = {
    "what a load answers, and every load is refused": """
        RepositoryModelLoadResponse.model_name RepositoryModelLoadResponse.isLoaded
        RepositoryModelUnloadResponse.model_name RepositoryModelUnloadResponse.isUnloaded"""
}
OTHERWISE_IN_KSERVE = {
    "RepositoryModelLoadRequest.model_name": "1 there, 2 in Triton; we refuse both without reading it",
    "RepositoryModelUnloadRequest.model_name": "the same",
}


@dataclass(frozen=True)
class Copy:
    """What one copy of the specification declares, by name within `package inference`."""

    calls: Mapping[str, Any]
    messages: frozenset[str]
    fields: Mapping[str, Any]
    values: Mapping[str, int]

    @property
    def all(self) -> dict[str, Any]:
        """Everything but empty messages."""
        return {**self.calls, **self.fields, **self.values}

    def beyond(self, other: "Copy") -> set[str]:
        """What `other` has not; a message that it has not stands for all that is in it, and a map's field for its entries."""
        messages = self.messages - other.messages
        names = {name for name in self.all.keys() - other.all.keys() if not name.endswith(("Entry.key", "Entry.value"))}
        return {name for name in messages | names if not any(name.startswith(f"{message}.") for message in messages)}


def _describe(python: str, files: str) -> Copy:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "protos" / "src")}
    done = subprocess.run([python, "-c", files + DESCRIBE], env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    calls, messages, fields, values = json.loads(done.stdout.replace("inference.", ""))
    return Copy(calls, frozenset(messages), fields, values)


def _names(reasons: Mapping[str, str]) -> set[str]:
    return {name for names in reasons.values() for name in names.split()}


@pytest.fixture(scope="module")
def ours() -> Copy:
    return _describe(sys.executable, OURS)


@pytest.fixture(scope="module")
def tritons() -> Copy:
    return _describe(sys.executable, TRITON)


def test_calls_messages_fields_and_enumerations_are_tritons(ours: Copy, tritons: Copy) -> None:
    assert len(ours.calls) == 12
    assert ours.messages <= tritons.messages
    declared = {name: what for name, what in ours.all.items() if name not in ONLY_OURS}
    assert declared == {name: what for name, what in tritons.all.items() if name in declared}
    assert ONLY_OURS.keys() <= ours.all.keys() - tritons.all.keys()


def test_what_triton_has_and_we_have_not_is_known_with_its_reason(ours: Copy, tritons: Copy) -> None:
    assert tritons.beyond(ours) == _names(ONLY_TRITONS)


@pytest.mark.peers
@pytest.mark.skipif(not PEERS.exists(), reason="no peers' environment: make .venv/peers/.installed")
def test_what_kserve_has_is_ours_but_for_known_differences(ours: Copy) -> None:
    kserves = _describe(str(PEERS), KSERVE)
    shared = ours.all.keys() & kserves.all.keys()
    assert kserves.messages <= ours.messages
    assert {name for name in shared if ours.all[name] != kserves.all[name]} == OTHERWISE_IN_KSERVE.keys()
    assert kserves.beyond(ours) == _names(ONLY_KSERVES)
    assert "GRPCInferenceService.ModelInfer" in shared


def test_a_difference_is_noticed(ours: Copy, tritons: Copy) -> None:
    renumbered = Copy(ours.calls, ours.messages, {**ours.fields, "ModelConfig.backend": [18, *ours.fields["ModelConfig.backend"][1:]]}, {})
    with pytest.raises(AssertionError):
        test_calls_messages_fields_and_enumerations_are_tritons(renumbered, tritons)
    grown = Copy({**tritons.calls, "GRPCInferenceService.New": []}, tritons.messages | {"NewRequest"}, tritons.fields, tritons.values)
    assert grown.beyond(ours) - tritons.beyond(ours) == {"GRPCInferenceService.New", "NewRequest"}


def test_the_private_pool_holds_every_service_and_not_the_default_one() -> None:
    for module, service in ((inference_pb2, "inference.GRPCInferenceService"), (monitoring_pb2, "tidegate.v1.MonitoringService")):
        assert POOL.FindServiceByName(service).file.name == module.DESCRIPTOR.name
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
