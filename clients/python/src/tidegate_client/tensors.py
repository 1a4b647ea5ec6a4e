"""Arrays to the bytes of the protocol and back: one table of datatypes. Knows no message and no model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate_client.errors import AnswerError, InputError
from tidegate_client.values import Array

BYTES = "BYTES"
_LENGTH = 4
_TEXT_KINDS = "OSUT"

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype("?"),
        **{f"{prefix}{8 * size}": np.dtype(f"<{kind}{size}") for prefix, kind in (("INT", "i"), ("UINT", "u")) for size in (1, 2, 4, 8)},
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        BYTES: np.dtype(object),
    }
)
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's dtype; BYTES for text and objects.

    Raises:
        InputError: for a dtype the protocol has no name for.
    """
    if array.dtype.kind in _TEXT_KINDS:
        return BYTES
    datatype = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if datatype is None:
        raise InputError(f"arrays of {array.dtype} cannot be sent; use one of {', '.join(DTYPES)}")
    return datatype


def cast(values: npt.ArrayLike, datatype: str, name: str) -> Array:
    """`values` as an array of `datatype`. Floats may be rounded; nothing else may change. `name` is for the message.

    Raises:
        InputError: if a value does not fit.
    """
    array = np.asarray(values)
    dtype = _dtype(datatype)
    if datatype == BYTES:
        return array.astype(object)
    if array.dtype.kind not in "buif":
        raise InputError(f"input {name!r} is {datatype}, not {array.dtype}")
    with np.errstate(all="ignore"):
        converted = array.astype(dtype)
    lossy = np.isinf(converted) & ~np.isinf(array) if dtype.kind == "f" else converted != array
    if lossy.any():
        raise InputError(f"input {name!r} is {datatype}, which cannot hold {array[lossy].flat[0]!s}")
    return converted


def encode(array: Array, datatype: str) -> bytes:
    """The elements, row-major and little-endian; a BYTES element (str or bytes) is preceded by its length.

    Raises:
        InputError: for an element that is neither str nor bytes in BYTES.
    """
    if datatype != BYTES:
        return array.astype(_dtype(datatype), copy=False).tobytes()
    elements = [_to_bytes(element) for element in array.ravel().tolist()]
    return b"".join(part for element in elements for part in (len(element).to_bytes(_LENGTH, "little"), element))


def decode(raw: bytes, datatype: str, shape: tuple[int, ...]) -> Array:
    """The read-only array that `encode` made `raw` of; BYTES becomes an object array of str, with surrogates for what is not UTF-8.

    Raises:
        AnswerError: if the bytes are not exactly as many as datatype and shape say.
    """
    if datatype == BYTES:
        return _shaped(np.array([_to_text(element) for element in _split(raw)], dtype=object), shape)
    dtype = _known(datatype)
    if len(raw) % dtype.itemsize:
        raise AnswerError(f"{len(raw)} bytes are not a whole number of {datatype} elements")
    return _shaped(np.frombuffer(raw, dtype), shape)


def decode_list(values: list[Any], datatype: str, shape: tuple[int, ...]) -> Array:
    """The read-only array of elements that came as a list, as `decode` gives it.

    Raises:
        AnswerError: if they are not as many as the shape says, or do not fit the datatype.
    """
    if datatype == BYTES:
        return _shaped(np.array([_to_text(value) for value in values], dtype=object), shape)
    try:
        return _shaped(np.array(values, _known(datatype)), shape)
    except OverflowError as error:
        raise AnswerError(f"a value does not fit {datatype}: {error}") from None


def _dtype(datatype: str) -> np.dtype[Any]:
    if datatype not in DTYPES:
        raise InputError(f"datatype {datatype!r} is not supported; use one of {', '.join(DTYPES)}")
    return DTYPES[datatype]


def _known(datatype: str) -> np.dtype[Any]:
    if datatype not in DTYPES:
        raise AnswerError(f"the answer has datatype {datatype!r}, which this client cannot read")
    return DTYPES[datatype]


def _shaped(flat: Array, shape: tuple[int, ...]) -> Array:
    try:
        array = flat.reshape(shape) if min(shape, default=0) >= 0 else None
    except ValueError:
        array = None
    if array is None:
        raise AnswerError(f"{flat.size} elements do not fill shape {list(shape)}")
    array.flags.writeable = False
    return array


def _split(raw: bytes) -> list[bytes]:
    elements, at = [], 0
    while at < len(raw):
        start = at + _LENGTH
        at = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or at > len(raw):
            raise AnswerError(f"a BYTES element runs beyond the {len(raw)} bytes that came")
        elements.append(raw[start:at])
    return elements


def _to_bytes(element: object) -> bytes:
    if isinstance(element, bytes):
        return element
    if not isinstance(element, str):
        raise InputError(f"a BYTES element must be text or bytes, not {element!r}")
    try:
        return element.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InputError(f"text that is not Unicode cannot be sent: {element!r}") from None


def _to_text(element: bytes) -> str:
    return element.decode("utf-8", "surrogateescape")
