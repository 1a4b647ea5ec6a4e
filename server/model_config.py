"""A loaded version as Triton's ModelConfig has it: how it is batched and queued, and its tensors. Pure; nothing is set here."""

from collections.abc import Iterable
from dataclasses import dataclass

from server.loaded_version import LoadedVersion
from tidegate_protos import inference_pb2 as pb

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
PRIORITY_LEVELS = 3
DEFAULT_PRIORITY = 2

_INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True)
class Batching:
    """The limits of every batcher: most rows of a batch of several requests, and the seconds an idle engine waits for it to fill."""

    max_batch_rows: int
    max_queue_delay: float


def describe(version: LoadedVersion, loaded: Iterable[int], batching: Batching) -> pb.ModelConfig:
    """The configuration of `version`; `loaded` are the versions of its model that can be asked for.

    A version whose rows cannot share a run has `max_batch_size` 0 and whole shapes, any other one has dims without the batch dimension.
    """
    batchable = version.batchable
    first = 1 if batchable else 0
    signature = version.signature
    return pb.ModelConfig(
        name=version.model,
        platform=PLATFORM,
        backend=BACKEND,
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=sorted(loaded))),
        max_batch_size=min(batching.max_batch_rows, _INT32_MAX) if batchable else 0,
        input=[pb.ModelInput(name=spec.name, data_type=_type(spec.datatype), dims=spec.shape[first:]) for spec in signature.inputs],
        output=[pb.ModelOutput(name=spec.name, data_type=_type(spec.datatype), dims=spec.shape[first:]) for spec in signature.outputs],
        dynamic_batching=_dynamic_batching(batching) if batchable else None,
        parameters={
            "tidegate.version": pb.ModelParameter(string_value=str(version.number)),
            "tidegate.digest": pb.ModelParameter(string_value=version.digest),
        },
    )


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _dynamic_batching(batching: Batching) -> pb.ModelDynamicBatching:
    return pb.ModelDynamicBatching(
        max_queue_delay_microseconds=round(batching.max_queue_delay * 1e6),
        priority_levels=PRIORITY_LEVELS,
        default_priority_level=DEFAULT_PRIORITY,
        default_queue_policy=pb.ModelQueuePolicy(timeout_action=pb.ModelQueuePolicy.REJECT, allow_timeout_override=True),
    )
