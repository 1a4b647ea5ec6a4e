"""Between protocol messages and arrays: decode a request, check it by a signature, encode an answer. Knows no queue or socket."""

import math
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from registry.bundle import Signature, TensorSpec
from server.engine import DTYPES, Columns, Tensor
from server.errors import InputMismatchError
from tidegate_protos import inference_pb2 as pb

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which field of InferTensorContents carries a datatype; FP16 has none and travels raw."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class InferRequest:
    """A decoded ModelInfer call.

    `label` is its model_version; `id` the prediction id, made here if the caller gave none; `raw` says how the caller sent its tensors.
    """

    model: str
    label: str
    id: str
    inputs: Columns
    datatypes: Mapping[str, str]
    outputs: tuple[str, ...]
    raw: bool


def decode(data: bytes) -> InferRequest:
    """Read a ModelInferRequest.

    Raises:
        InputMismatchError: if it does not parse, mixes raw and typed contents, or a tensor's bytes do not match its shape and datatype.
    """
    try:
        message = pb.ModelInferRequest.FromString(data)
    except DecodeError as error:
        raise InputMismatchError(f"the request is not a ModelInferRequest: {error}") from error
    raw = bool(message.raw_input_contents)
    if raw and len(message.raw_input_contents) != len(message.inputs):
        raise InputMismatchError(
            f"expected one raw_input_contents per input, got {len(message.raw_input_contents)} for {len(message.inputs)}"
        )
    inputs: dict[str, Tensor] = {}
    for place, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise InputMismatchError(f"input {tensor.name!r} appears twice")
        if raw and tensor.HasField("contents"):
            raise InputMismatchError(f"input {tensor.name!r} has typed contents beside raw_input_contents: send one or the other")
        inputs[tensor.name] = _decode_raw(tensor, message.raw_input_contents[place]) if raw else _decode_typed(tensor)
    return InferRequest(
        model=message.model_name,
        label=message.model_version,
        id=message.id or uuid.uuid4().hex,
        inputs=inputs,
        datatypes={tensor.name: tensor.datatype for tensor in message.inputs},
        outputs=tuple(output.name for output in message.outputs),
        raw=raw,
    )


def check(request: InferRequest, signature: Signature, *, batchable: bool) -> int:
    """The number of rows of a request that fits the signature (1 where rows are no dimension of their own).

    Raises:
        InputMismatchError: saying what was expected and what came.
    """
    expected = {spec.name: spec for spec in signature.inputs}
    if request.inputs.keys() != expected.keys():
        raise InputMismatchError(f"expected inputs {sorted(expected)}, got {sorted(request.inputs)}")
    for name, tensor in request.inputs.items():
        _check_tensor(expected[name], request.datatypes[name], tensor.shape)
    known = [spec.name for spec in signature.outputs]
    if unknown := [name for name in request.outputs if name not in known]:
        raise InputMismatchError(f"no output {unknown[0]!r}; the model gives {known}")
    if not batchable:
        return 1
    rows: set[int] = {tensor.shape[0] for tensor in request.inputs.values()}
    if len(rows) > 1:
        raise InputMismatchError(f"all inputs of a request have as many rows, got {sorted(rows)}")
    if 0 in rows:
        raise InputMismatchError("the batch is empty: expected at least one row, got 0")
    return rows.pop()


def encode(request: InferRequest, version: int, outputs: Columns, signature: Signature) -> bytes:
    """The ModelInferResponse to a request: raw if the request was raw (or an output is FP16, which has no typed form), else typed."""
    datatypes = {spec.name: spec.datatype for spec in signature.outputs}
    names = request.outputs or tuple(datatypes)
    answer = pb.ModelInferResponse(model_name=request.model, model_version=str(version), id=request.id)
    raw = request.raw or any(datatypes[name] == "FP16" for name in names)
    for name in names:
        tensor, datatype = outputs[name], datatypes[name]
        output = answer.outputs.add(name=name, datatype=datatype, shape=tensor.shape)
        if raw:
            answer.raw_output_contents.append(_raw_bytes(tensor, datatype))
        else:
            getattr(output.contents, _CONTENTS[datatype]).extend(tensor.ravel().tolist())
    return answer.SerializeToString()


def _decode_raw(tensor: pb.ModelInferRequest.InferInputTensor, data: bytes) -> Tensor:
    dtype, shape = _dtype(tensor), _shape(tensor)
    if tensor.datatype == "BYTES":
        return _objects(_split(tensor.name, data), tensor.name, shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InputMismatchError(f"input {tensor.name!r} {tensor.datatype} {list(shape)} expects {expected} bytes, got {len(data)}")
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape)


def _decode_typed(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    dtype, shape = _dtype(tensor), _shape(tensor)
    if tensor.datatype not in _CONTENTS:
        raise InputMismatchError(f"input {tensor.name!r} is {tensor.datatype}, which has no typed contents: send it in raw_input_contents")
    present = [field.name for field, _ in tensor.contents.ListFields()]
    if present not in ([], [_CONTENTS[tensor.datatype]]):
        raise InputMismatchError(f"input {tensor.name!r} {tensor.datatype} expects {_CONTENTS[tensor.datatype]}, got {', '.join(present)}")
    values = getattr(tensor.contents, _CONTENTS[tensor.datatype])
    if tensor.datatype == "BYTES":
        return _objects(list(values), tensor.name, shape)
    if len(values) != math.prod(shape):
        raise InputMismatchError(f"input {tensor.name!r} {list(shape)} expects {math.prod(shape)} values, got {len(values)}")
    try:
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError as error:
        raise InputMismatchError(f"input {tensor.name!r} holds a value outside {tensor.datatype}: {error}") from error


def _dtype(tensor: pb.ModelInferRequest.InferInputTensor) -> np.dtype[np.generic]:
    if tensor.datatype not in DTYPES:
        raise InputMismatchError(f"input {tensor.name!r} has datatype {tensor.datatype!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[tensor.datatype]


def _shape(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if any(size < 0 for size in shape):
        raise InputMismatchError(f"input {tensor.name!r} has shape {list(shape)}: a size is negative")
    return shape


def _split(name: str, data: bytes) -> list[bytes]:
    values: list[bytes] = []
    place = 0
    while place < len(data):
        start = place + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, place)[0] if start <= len(data) else len(data) + 1
        if end > len(data):
            raise InputMismatchError(f"input {name!r}: the lengths of its BYTES elements exceed its {len(data)} bytes")
        values.append(data[start:end])
        place = end
    return values


def _objects(values: Sequence[bytes], name: str, shape: tuple[int, ...]) -> Tensor:
    if len(values) != math.prod(shape):
        raise InputMismatchError(f"input {name!r} BYTES {list(shape)} expects {math.prod(shape)} elements, got {len(values)}")
    tensor = np.empty(len(values), dtype=object)
    tensor[:] = values
    return tensor.reshape(shape)


def _check_tensor(spec: TensorSpec, datatype: str, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True))
    if datatype != spec.datatype or not fits:
        columns = f" with columns {', '.join(spec.columns)}" if spec.columns else ""
        raise InputMismatchError(f"input {spec.name!r} expects {spec.datatype} {list(spec.shape)}{columns}, got {datatype} {list(shape)}")


def _raw_bytes(tensor: Tensor, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(value)) + value for value in tensor.ravel())
    return tensor.astype(DTYPES[datatype].newbyteorder("<"), copy=False).tobytes()
