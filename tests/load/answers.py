"""Whether an answer is what ONNX Runtime says in process for the row it was given, by the version it names."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundle import NUMERIC
from server.onnx_engine import OnnxEngine
from tests.load.messages import HEAD
from tidegate_protos import inference_pb2 as pb
from training.onnx_export import LABEL, PROBABILITIES

TOLERANCE = 1e-6
"""The same row rounds otherwise in a batch of another size; versions differ by much more"""

Reference: TypeAlias = tuple[bytes, NDArray[np.float32]]
"""Label and probabilities of one row"""


def reference(raw: bytes, row: NDArray[np.float32]) -> Reference:
    """What a model says of a row, float32 [1, n]."""
    outputs = OnnxEngine(raw, threads=1).run({NUMERIC: row}, (LABEL, PROBABILITIES))
    return outputs[LABEL][0].encode(), outputs[PROBABILITIES][0]


def is_right(body: bytes, references: Mapping[str, Reference]) -> bool:
    """Whether label and probabilities in a gRPC-framed answer are those of the version that it names."""
    answer = pb.ModelInferResponse.FromString(body[HEAD:])
    values = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    label, probabilities = references[answer.model_version]
    near = np.allclose(np.frombuffer(values[PROBABILITIES], np.float32), probabilities, rtol=0, atol=TOLERANCE)
    return near and values[LABEL][4:] == label


def version(body: bytes) -> str:
    """The version that a gRPC-framed answer names."""
    return str(pb.ModelInferResponse.FromString(body[HEAD:]).model_version)
