"""Between protocol messages and arrays: decode a request, check it by a signature, encode an answer. Knows no queue or socket."""

import itertools
import math
import secrets
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from registry.bundle import Signature, TensorSpec
from server.engine import DTYPES, TEXT_BYTES, WIRE_DTYPES, Columns, Tensor, raw_bytes
from server.errors import InputMismatchError
from server.grpcio_transport import parameters
from server.grpcio_transport.field_count import check_fields
from server.grpcio_transport.parameters import Parameters
from server.messages import parse
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

_MAX_DIMENSIONS = 32
_MAX_EMPTY = 1 << 16
"""Most that the other sizes of a tensor may be, multiplied, where one is zero: its rows are work, and take no bytes to ask for."""
_PART = 1 << 14
_LENGTH = struct.Struct("<I")
_MAX_HEADS = 1024

_PROCESS = secrets.token_hex(8)
_NUMBERS = itertools.count()


class InferRequest(NamedTuple):
    """A decoded ModelInfer call.

    `label` is its model_version; `id` the prediction id, made here if the caller gave none; `outputs` are the names asked for, none for
    all; `raw` says how the caller sent its tensors; `size` is about what it takes in memory, in bytes.
    """

    model: str
    label: str
    id: str
    inputs: Columns
    datatypes: Mapping[str, str]
    outputs: tuple[str, ...]
    raw: bool
    parameters: Parameters
    size: int


def decode(data: bytes) -> InferRequest:
    """Read a ModelInferRequest.

    Raises:
        InputMismatchError: if it does not parse, has too many fields, mixes raw and typed contents, or a tensor's bytes do not match its
            shape and datatype.
    """
    check_fields(data)
    message = parse(pb.ModelInferRequest, data, max_bytes=math.inf)
    tensors, contents = message.inputs, message.raw_input_contents
    raw = bool(contents)
    if raw and len(contents) != len(tensors):
        raise InputMismatchError(f"expected one raw_input_contents per input, got {len(contents)} for {len(tensors)}")
    inputs: dict[str, Tensor] = {}
    datatypes: dict[str, str] = {}
    size = len(data)
    for place, tensor in enumerate(tensors):
        name = tensor.name
        if name in inputs:
            raise InputMismatchError(f"input {name[:80]!r} appears twice")
        if raw and tensor.HasField("contents"):
            raise InputMismatchError(f"input {name[:80]!r} has typed contents beside raw_input_contents: send one or the other")
        datatypes[name] = tensor.datatype
        values = inputs[name] = _decode_raw(tensor, contents[place]) if raw else _decode_typed(tensor)
        if datatypes[name] == "BYTES":
            size += values.size * TEXT_BYTES
    outputs = tuple([output.name for output in message.outputs])
    if len(set(outputs)) != len(outputs):
        raise InputMismatchError("an output is asked for twice")
    return InferRequest(
        message.model_name,
        message.model_version,
        message.id or f"{_PROCESS}{next(_NUMBERS):016x}",
        inputs,
        datatypes,
        outputs,
        raw,
        parameters.read(message.parameters) if message.parameters else parameters.NONE,
        size,
    )


class Form:
    """What the requests and answers of one version look like.

    `always` are outputs to compute even for a caller that asks for others, because something else wants them.
    """

    def __init__(self, model: str, version: int, signature: Signature, *, batchable: bool, always: tuple[str, ...] = ()) -> None:
        self._inputs = {spec.name: spec for spec in signature.inputs}
        self._outputs = {spec.name: spec.datatype for spec in signature.outputs}
        self._names = tuple(self._outputs)
        self._batchable = batchable
        self._always = always
        self._start = pb.ModelInferResponse(model_name=model, model_version=str(version)).SerializeToString()
        self._heads: dict[tuple[tuple[str, ...], tuple[tuple[int, ...], ...]], bytes] = {}

    def outputs(self, request: InferRequest) -> tuple[str, ...]:
        """The names of the outputs to compute for a request."""
        if not request.outputs:
            return self._names
        return (*request.outputs, *[name for name in self._always if name not in request.outputs])

    def rows(self, request: InferRequest) -> int:
        """The number of rows of a request that fits (1 where rows are no dimension of their own).

        Raises:
            InputMismatchError: saying what was expected and what came.
        """
        inputs = request.inputs
        if inputs.keys() != self._inputs.keys():
            raise InputMismatchError(f"expected inputs {sorted(self._inputs)}, got {sorted(inputs)[:32]}")
        for name, spec in self._inputs.items():
            _check_tensor(spec, request.datatypes[name], inputs[name].shape)
        for name in request.outputs:
            if name not in self._outputs:
                raise InputMismatchError(f"no output {name[:80]!r}; the model gives {list(self._names)}")
        return self._count(inputs) if self._batchable else 1

    def shape(self, request: InferRequest) -> tuple[object, ...]:
        """What must be alike for two requests to share a batch."""
        return (*[request.inputs[name].shape[1:] for name in self._inputs], *request.outputs)

    def encode(self, request: InferRequest, outputs: Columns, timing: str = "") -> bytes:
        """The ModelInferResponse: raw if the request was raw (or an output is FP16, which has no typed form), else typed.

        `timing` is the value of the parameter `tidegate_timing`, if the caller asked for it.
        """
        names = request.outputs or self._names
        raw = request.raw or any(self._outputs[name] == "FP16" for name in names)
        parts = [self._start, _field(_ID, request.id.encode())]
        if timing:
            parts.append(pb.ModelInferResponse(parameters={"tidegate_timing": pb.InferParameter(string_param=timing)}).SerializeToString())
        if raw:
            parts.append(self._head(names, outputs))
            parts += [_field(_RAW, raw_bytes(outputs[name], self._outputs[name])) for name in names]
        else:
            parts.append(self._typed(names, outputs))
        # Parts of a message may be written one after the other ("Encoding", Protocol Buffers documentation): reading them merges them.
        return b"".join(parts)

    def _count(self, inputs: Columns) -> int:
        rows = {tensor.shape[0] for tensor in inputs.values()}
        if len(rows) > 1:
            raise InputMismatchError(f"all inputs of a request have as many rows, got {sorted(rows)}")
        count: int = rows.pop()
        if not count:
            raise InputMismatchError("the batch is empty: expected at least one row, got 0")
        return count

    def _head(self, names: tuple[str, ...], outputs: Columns) -> bytes:
        """Names, datatypes and shapes of the outputs; remembered, as most answers have the same."""
        key = (names, tuple([outputs[name].shape for name in names]))
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            answer = pb.ModelInferResponse()
            for name in names:
                answer.outputs.add(name=name, datatype=self._outputs[name], shape=outputs[name].shape)
            head = self._heads[key] = answer.SerializeToString()
        return head

    def _typed(self, names: tuple[str, ...], outputs: Columns) -> bytes:
        answer = pb.ModelInferResponse()
        for name in names:
            tensor, datatype = outputs[name], self._outputs[name]
            output = answer.outputs.add(name=name, datatype=datatype, shape=tensor.shape)
            getattr(output.contents, _CONTENTS[datatype]).extend(tensor.ravel().tolist())
        return answer.SerializeToString()


_ID, _RAW = b"\x1a", b"\x32"
"""Fields 3 and 6 of ModelInferResponse, both of bytes behind their length."""


def _field(tag: bytes, value: bytes) -> bytes:
    length = len(value)
    if length < 128:  # noqa: PLR2004 -- what one byte of a varint holds
        return tag + bytes((length,)) + value
    size = bytearray(tag)
    while length > 127:  # noqa: PLR2004 -- the same
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes(size) + value


def _decode_raw(tensor: pb.ModelInferRequest.InferInputTensor, data: bytes) -> Tensor:
    dtype, shape = _dtype(tensor), _shape(tensor)
    if tensor.datatype == "BYTES":
        return _objects(_split(tensor.name, data), tensor.name, shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InputMismatchError(f"input {tensor.name[:80]!r} {tensor.datatype} {list(shape)} expects {expected} bytes, got {len(data)}")
    return _shaped(np.frombuffer(data, dtype), tensor.name, shape)


def _decode_typed(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    dtype, shape = _dtype(tensor), _shape(tensor)
    if tensor.datatype not in _CONTENTS:
        raise InputMismatchError(f"input {tensor.name[:80]!r} is {tensor.datatype}, which has no typed form: send it in raw_input_contents")
    present = [filled.name for filled, _ in tensor.contents.ListFields()]
    if present not in ([], [_CONTENTS[tensor.datatype]]):
        raise InputMismatchError(
            f"input {tensor.name[:80]!r} {tensor.datatype} expects {_CONTENTS[tensor.datatype]}, got {', '.join(present)}"
        )
    values = getattr(tensor.contents, _CONTENTS[tensor.datatype])
    if tensor.datatype == "BYTES":
        return _objects(list(values), tensor.name, shape)
    if len(values) != math.prod(shape):
        raise InputMismatchError(f"input {tensor.name[:80]!r} {list(shape)} expects {math.prod(shape)} values, got {len(values)}")
    try:
        return _shaped(_numbers(values, dtype), tensor.name, shape)
    except OverflowError as error:
        raise InputMismatchError(f"input {tensor.name[:80]!r} holds a value outside {tensor.datatype}: {error}") from error


def _dtype(tensor: pb.ModelInferRequest.InferInputTensor) -> np.dtype[np.generic]:
    dtype = WIRE_DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InputMismatchError(f"input {tensor.name[:80]!r} has datatype {tensor.datatype[:80]!r}; expected one of {', '.join(DTYPES)}")
    return dtype


def _shape(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    if len(tensor.shape) > _MAX_DIMENSIONS:
        raise InputMismatchError(f"input {tensor.name[:80]!r} has {len(tensor.shape)} dimensions, at most {_MAX_DIMENSIONS} are taken")
    shape = tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise InputMismatchError(f"input {tensor.name[:80]!r} has shape {list(shape)}: a size is negative")
    return shape


def _numbers(values: Sequence[Any], dtype: np.dtype[np.generic]) -> Tensor:
    """The array of typed contents; in parts, as numpy makes an object of each number and lets no other thread run meanwhile."""
    numbers = np.empty(len(values), dtype)
    for start in range(0, len(values), _PART):
        numbers[start : start + _PART] = values[start : start + _PART]
    return numbers


def _shaped(values: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    if not values.size and math.prod(filter(None, shape)) > _MAX_EMPTY:
        raise InputMismatchError(
            f"input {name[:80]!r} {list(shape)}: the sizes of a tensor without values are {_MAX_EMPTY} together at most"
        )
    return values.reshape(shape)


def _split(name: str, data: bytes) -> list[bytes]:
    values: list[bytes] = []
    place = 0
    while place < len(data):
        start = place + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, place)[0] if start <= len(data) else len(data) + 1
        if end > len(data):
            raise InputMismatchError(f"input {name[:80]!r}: the lengths of its BYTES elements exceed its {len(data)} bytes")
        values.append(data[start:end])
        place = end
    return values


def _objects(values: Sequence[bytes], name: str, shape: tuple[int, ...]) -> Tensor:
    if len(values) != math.prod(shape):
        raise InputMismatchError(f"input {name[:80]!r} BYTES {list(shape)} expects {math.prod(shape)} elements, got {len(values)}")
    tensor = np.empty(len(values), dtype=object)
    tensor[:] = values
    return _shaped(tensor, name, shape)


def _check_tensor(spec: TensorSpec, datatype: str, shape: tuple[int, ...]) -> None:
    fits = len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True))
    if datatype != spec.datatype or not fits:
        columns = f" with columns {', '.join(spec.columns)}" if spec.columns else ""
        raise InputMismatchError(f"input {spec.name!r} expects {spec.datatype} {list(spec.shape)}{columns}, got {datatype} {list(shape)}")
