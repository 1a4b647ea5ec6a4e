"""Inference requests and answers of the REST protocol: JSON, and the binary tensor data extension, to and from messages. Pure.

With the extension the JSON is followed by the bytes of tensors, one after the other in the order of the JSON; a tensor there says its
size in `parameters.binary_data_size`, and the header Inference-Header-Content-Length where the JSON ends. Fields the protocol does not
have are ignored, as in its gRPC form. Requests always go on raw, so that answers come back raw whatever the caller sent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from control_plane.errors import AnswerError, TensorError
from control_plane.inference import tensors
from tidegate_protos import inference_pb2 as pb

LENGTH_HEADER = "Inference-Header-Content-Length"
_SIZE = "binary_data_size"
_BINARY = "binary_data"
_BINARY_DEFAULT = "binary_data_output"
_INT64_MIN, _INT64_END, _UINT64_END = -(1 << 63), 1 << 63, 1 << 64

Object: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class OutputForm:
    """Which outputs the caller wants as bytes: those named, and by default all or none."""

    binary: bool
    by_name: Mapping[str, bool]

    def is_binary(self, name: str) -> bool:
        """Whether this output goes out as bytes."""
        return self.by_name.get(name, self.binary)


@dataclass(frozen=True)
class Encoded:
    """A body; `json_length` is where its JSON ends, None if all of it is JSON."""

    body: bytes
    json_length: int | None


def decode(body: bytes, header: str | None, model: str, version: str) -> tuple[pb.ModelInferRequest, OutputForm]:
    """The message a body says, and the form of the answer it asks for; `header` is LENGTH_HEADER's value, if there.

    Raises:
        TensorError: if JSON, sizes and shapes do not fit together.
    """
    end = _json_length(header, len(body))
    document = _parse(body[:end])
    parameters = dict(_object(document.get("parameters", {}), "parameters"))
    binary = _flag(parameters.pop(_BINARY_DEFAULT, False), _BINARY_DEFAULT)
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=_text(document.get("id", ""), "id"))
    _fill(request.parameters, parameters)
    rest = memoryview(body)[end:]
    for item in _objects(document.get("inputs", []), "inputs"):
        rest = _add_input(request, item, rest)
    if rest:
        raise TensorError(f"{len(rest)} bytes are left behind the last tensor: do the sizes in {_SIZE} and {LENGTH_HEADER} add up?")
    by_name = dict(_add_output(request, item) for item in _objects(document.get("outputs", []), "outputs"))
    return request, OutputForm(binary, {name: form for name, form in by_name.items() if form is not None})


def encode(answer: pb.ModelInferResponse, form: OutputForm) -> Encoded:
    """The body of an answer.

    Raises:
        AnswerError: if JSON was asked for where JSON cannot hold the values, or the daemon's answer is not raw.
    """
    if len(answer.raw_output_contents) != len(answer.outputs):
        raise AnswerError(f"the daemon answered {len(answer.outputs)} outputs with {len(answer.raw_output_contents)} raw contents")
    outputs, chunks = [], []
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        item: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = _values(output.parameters)
        if form.is_binary(output.name):
            chunks.append(raw)
            parameters[_SIZE] = len(raw)
        else:
            item["data"] = tensors.unpack(output.name, output.datatype, raw)
        outputs.append({**item, "parameters": parameters} if parameters else item)
    document: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version, "id": answer.id, "outputs": outputs}
    if answer.parameters:
        document["parameters"] = _values(answer.parameters)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Encoded(b"".join((text, *chunks)), len(text) if chunks else None)


def _json_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit()) or len(header) > len(str(size)) or int(header) > size:
        raise TensorError(f"{LENGTH_HEADER} is {header[:40]!r}; expected a number of bytes up to {size}, the size of the body")
    return int(header)


def _parse(text: bytes) -> Object:
    try:
        return _object(json.loads(text.decode()), "the body")
    except (ValueError, RecursionError) as error:
        raise TensorError(f"the body is not JSON: {error}; with binary tensors send {LENGTH_HEADER}") from error


def _add_input(request: pb.ModelInferRequest, item: Object, rest: memoryview) -> memoryview:
    name, datatype, shape = _text(item.get("name"), "an input's name"), _text(item.get("datatype"), "an input's datatype"), _shape(item)
    parameters = dict(_object(item.get("parameters", {}), f"parameters of input {name!r}"))
    size = parameters.pop(_SIZE, None)
    if (size is None) == ("data" not in item):
        raise TensorError(f"input {name!r} needs either data or {_SIZE}, and not both")
    if size is None:
        raw = tensors.pack(name, datatype, shape, item["data"])
    else:
        raw, rest = _take(name, size, rest)
        tensors.check_size(name, datatype, shape, len(raw))
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    _fill(tensor.parameters, parameters)
    request.raw_input_contents.append(raw)
    return rest


def _take(name: str, size: object, rest: memoryview) -> tuple[bytes, memoryview]:
    if type(size) is not int or not 0 <= size <= len(rest):
        raise TensorError(f"input {name!r}: {_SIZE} is {size!r}, and {len(rest)} bytes are left in the body")
    return bytes(rest[:size]), rest[size:]


def _add_output(request: pb.ModelInferRequest, item: Object) -> tuple[str, bool | None]:
    name = _text(item.get("name"), "an output's name")
    parameters = dict(_object(item.get("parameters", {}), f"parameters of output {name!r}"))
    binary = parameters.pop(_BINARY, None)
    _fill(request.outputs.add(name=name).parameters, parameters)
    return name, None if binary is None else _flag(binary, _BINARY)


def _fill(target: Any, parameters: Object) -> None:
    # `target` is protobuf's map<string, InferParameter>, which has no type of its own.
    for name, value in parameters.items():
        match value:
            case bool():
                target[name].bool_param = value
            case int() if _INT64_MIN <= value < _INT64_END:
                target[name].int64_param = value
            case int() if 0 <= value < _UINT64_END:
                target[name].uint64_param = value
            case float():
                target[name].double_param = value
            case str():
                target[name].string_param = _text(value, f"parameter {name!r}")
            case _:
                raise TensorError(f"parameter {name!r} is {value!r:.40}; expected true, false, a 64-bit integer, a number or a string")


def _values(parameters: Any) -> dict[str, Any]:
    return {name: getattr(value, choice) for name, value in parameters.items() if (choice := value.WhichOneof("parameter_choice"))}


def _shape(item: Object) -> list[int]:
    shape = item.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < _INT64_END for size in shape):
        raise TensorError(f"input {item.get('name')!r}: shape is a list of sizes, 0 or more; got {shape!r:.80}")
    return shape


def _object(value: object, what: str) -> Object:
    if not isinstance(value, dict):
        raise TensorError(f"{what} is not a JSON object")
    return value


def _objects(value: object, what: str) -> list[Object]:
    if not isinstance(value, list):
        raise TensorError(f"{what} is not a list")
    return [_object(item, f"an entry of {what}") for item in value]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TensorError(f"{what} is missing or is not a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TensorError(f"{what} is not valid Unicode") from error
    return value


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise TensorError(f"{what} is true or false, not {value!r:.40}")
    return value
