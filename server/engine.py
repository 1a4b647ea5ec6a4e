"""The seam to whatever computes: columns of one batch in, columns out. No gRPC, no asyncio, no protobuf."""

import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.bundle import Signature
from server.errors import ModelFailedError

Tensor: TypeAlias = NDArray[Any]
Columns: TypeAlias = Mapping[str, Tensor]
"""Tensors by name, each of the numpy dtype of `DTYPES`. What a BYTES tensor holds is `bytes`, and `str` for an engine alone."""

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}

WIRE_DTYPES = {name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()}
"""The same as raw contents have them"""
_LENGTH = struct.Struct("<I")

TEXT_BYTES = 56
"""What an element of a BYTES tensor takes beside its letters: an object of Python, and a pointer to it."""


def rows_of(columns: Columns, start: int, stop: int) -> dict[str, Tensor]:
    """The rows `start` to `stop` of every tensor, without a copy."""
    return {name: tensor[start:stop] for name, tensor in columns.items()}


def joined(parts: Sequence[Columns]) -> dict[str, Tensor]:
    """The rows of all parts, in order, of every tensor that the first has.

    Raises:
        ValueError: if the rows of a tensor have not the same shape in each part.
    """
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def decoded(inputs: Columns, signature: Signature) -> dict[str, Tensor]:
    """The inputs as an engine takes them.

    Raises:
        ModelFailedError: if the bytes of a text are not UTF-8.
    """
    return {spec.name: _text(spec.name, inputs[spec.name]) if spec.datatype == "BYTES" else inputs[spec.name] for spec in signature.inputs}


def encoded(outputs: Columns) -> dict[str, Tensor]:
    """What an engine gave, with texts as UTF-8."""
    return {name: _mapped(str.encode, tensor) if tensor.dtype == object else tensor for name, tensor in outputs.items()}


def _text(name: str, tensor: Tensor) -> Tensor:
    try:
        return _mapped(bytes.decode, tensor)
    except UnicodeDecodeError as error:
        raise ModelFailedError(f"input {name} holds bytes that are not UTF-8 text, which this model needs") from error


def _mapped(function: Callable[[Any], bytes | str], tensor: Tensor) -> Tensor:
    return np.fromiter(map(function, tensor.ravel().tolist()), object, tensor.size).reshape(tensor.shape)


def raw_bytes(tensor: Tensor, datatype: str) -> bytes:
    """The elements as raw contents have them: row-major, little-endian, texts behind their lengths."""
    if datatype == "BYTES":
        texts = tensor.ravel().tolist()
        return b"".join(itertools.chain.from_iterable(zip(map(_LENGTH.pack, map(len, texts)), texts, strict=True)))
    return tensor.astype(WIRE_DTYPES[datatype], copy=False).tobytes()


class Engine(Protocol):
    """One loaded model."""

    @property
    def signature(self) -> Signature:
        """What the model itself says it takes and gives."""
        ...

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests could share one run: every tensor's first dimension is free.

        Shapes do not tell whether the model keeps rows apart: `row_probe` tries that.
        """
        ...

    def run(self, inputs: Columns, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Compute the named outputs, at least one, for one batch; they come in that order. Texts are `str`, which UTF-8 can carry.

        Raises:
            ModelFailedError: if the model refuses these values, or there is no such output.
        """
        ...
