"""The values of one tensor: from JSON to the protocol's bytes (row-major, little-endian), and back. Pure; knows no request.

JSON has no NaN and no infinity: both ways they are the strings "NaN", "Infinity" and "-Infinity", as in protobuf's own JSON; on the way
in `null` is NaN too, a missing value. FP16 may come as JSON numbers like every other datatype.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np

from control_plane.errors import AnswerError, TensorError

BYTES = "BYTES"
DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype("?"),
        "UINT8": np.dtype("<u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("<i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
    }
)
"""All but BYTES, whose elements have no fixed size."""

_NOT_NUMBERS = {None: math.nan, "NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_JSON_TYPES: Mapping[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true and false"),
    "i": (frozenset({int}), "integers"),
    "u": (frozenset({int}), "integers"),
    "f": (frozenset({int, float, str, NoneType}), "numbers"),
}
_LENGTH = struct.Struct("<I")


def pack(name: str, datatype: str, shape: Sequence[int], data: object) -> bytes:
    """The bytes of a tensor given as JSON: a flat list, or lists nested as its shape says.

    Raises:
        TensorError: if the values are not of the datatype or do not fill the shape; the text says what was expected.
    """
    values = _flat(name, shape, data)
    if len(values) != math.prod(shape):
        raise TensorError(f"input {name!r} {list(shape)} expects {math.prod(shape)} values, got {len(values)}")
    if datatype == BYTES:
        return b"".join(_element(name, value) for value in values)
    dtype = _dtype(name, datatype)
    allowed, expected = _JSON_TYPES[dtype.kind]
    if not set(map(type, values)) <= allowed:
        wrong = next(value for value in values if type(value) not in allowed)
        raise TensorError(f"input {name!r} is {datatype} and expects {expected}, got {_shown(wrong)}")
    try:
        return (_floats(name, dtype, values) if dtype.kind == "f" else np.array(values, dtype)).tobytes()
    except OverflowError as error:
        raise TensorError(f"input {name!r} holds a value outside {datatype}") from error


def check_size(name: str, datatype: str, shape: Sequence[int], size: int) -> None:
    """Refuse binary data whose size in bytes is not that of the tensor; of BYTES only the daemon can tell.

    Raises:
        TensorError: if so, or if there is no such datatype.
    """
    if datatype == BYTES:
        return
    expected = math.prod(shape) * _dtype(name, datatype).itemsize
    if size != expected:
        raise TensorError(f"input {name!r} {datatype} {list(shape)} expects {expected} bytes, got {size}")


def unpack(name: str, datatype: str, raw: bytes) -> list[Any]:
    """The elements of a tensor as JSON values, flat.

    Raises:
        AnswerError: if JSON cannot hold them (BYTES that are not UTF-8), or they are not what the datatype says.
    """
    try:
        if datatype == BYTES:
            return [element.decode() for element in _elements(raw)]
        values = np.frombuffer(raw, DTYPES[datatype])
    except UnicodeDecodeError as error:
        raise AnswerError(f"output {name!r} holds bytes that are not UTF-8 text: ask for it with binary_data") from error
    except (KeyError, ValueError, struct.error) as error:
        raise AnswerError(f"the daemon answered output {name!r} with bytes that are not {datatype}") from error
    listed: list[Any] = values.tolist()
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return listed
    return [value if math.isfinite(value) else _name_of(value) for value in listed]


def _flat(name: str, shape: Sequence[int], data: object) -> list[Any]:
    if not isinstance(data, list):
        raise TensorError(f"input {name!r}: data is a list of values, not {_shown(data)}")
    sizes, values = [len(data)], data
    while values and isinstance(values[0], list):
        if {type(part) for part in values} != {list} or len(set(map(len, values))) != 1:
            raise TensorError(f"input {name!r}: its nested lists differ in length or depth")
        sizes.append(len(values[0]))
        values = list(chain.from_iterable(values))
    if len(sizes) > 1 and sizes != list(shape):
        raise TensorError(f"input {name!r} has shape {list(shape)}, its data are nested as {sizes}")
    return values


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in DTYPES:
        raise TensorError(f"input {name!r} has datatype {datatype[:40]!r}; expected one of {', '.join(DTYPES)}, {BYTES}")
    return DTYPES[datatype]


def _floats(name: str, dtype: np.dtype[Any], values: Sequence[Any]) -> "np.ndarray[Any, np.dtype[Any]]":
    if set(map(type, values)) & {str, NoneType}:
        values = [_NOT_NUMBERS.get(value, value) if isinstance(value, str | None) else value for value in values]
        if texts := [value for value in values if isinstance(value, str)]:
            raise TensorError(f"input {name!r} expects numbers, got {_shown(texts[0])}")
    wide = np.array(values, np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if (np.isinf(narrow) & np.isfinite(wide)).any():
        raise OverflowError
    return narrow


def _element(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise TensorError(f"input {name!r} is BYTES and expects strings, got {_shown(value)}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise TensorError(f"input {name!r} holds half of a surrogate pair, which is not text") from error
    return _LENGTH.pack(len(encoded)) + encoded


def _elements(raw: bytes) -> list[bytes]:
    elements, place = [], 0
    while place < len(raw):
        start = place + _LENGTH.size
        place = start + _LENGTH.unpack_from(raw, place)[0]
        if place > len(raw):
            raise ValueError("an element ends behind the tensor")
        elements.append(raw[start:place])
    return elements


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _shown(value: object) -> str:
    return repr(value)[:40]
