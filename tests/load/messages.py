"""The requests of the load: one FP32 tensor `numeric` [n, 20], raw, seeded; as protobuf and as gRPC frames it. Nothing is sent here."""

import struct

import numpy as np
from numpy.typing import NDArray

from registry.bundle import NUMERIC
from tidegate_protos import inference_pb2 as pb

FEATURES = 20
HEAD = 5
"""Bytes that gRPC puts before a message"""
PATH = "/inference.GRPCInferenceService/ModelInfer"


def rows(number: int, seed: int = 7, features: int = FEATURES) -> NDArray[np.float32]:
    """float32 [number, features]."""
    return np.random.default_rng(seed).standard_normal((number, features)).astype(np.float32)


def request(model: str, numeric: NDArray[np.float32], *, prediction_id: str = "") -> bytes:
    """A serialised ModelInferRequest; with an id of its own the answer is the same bytes every time."""
    message = pb.ModelInferRequest(model_name=model, id=prediction_id, raw_input_contents=[numeric.tobytes()])
    message.inputs.add(name=NUMERIC, datatype="FP32", shape=numeric.shape)
    return message.SerializeToString()


def framed(message: bytes) -> bytes:
    """A message as it stands in a gRPC body: not compressed, its length, itself."""
    return struct.pack(">BL", 0, len(message)) + message
