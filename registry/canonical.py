"""The one JSON encoding of the registry: same value, same bytes, same digest. No I/O here."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from registry.errors import FormatError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]


def encode(value: Json) -> bytes:
    """Canonical JSON: keys sorted, UTF-8, no spaces, a newline at the end; floats as Python's shortest round-trip form.

    Raises:
        FormatError: for what JSON cannot hold: NaN, infinities, text that is not valid Unicode, nesting without end, other types.
    """
    try:
        return _ENCODER.encode(value).encode() + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"not representable as canonical JSON: {error}") from error


def decode(data: bytes, what: str) -> JsonObject:
    """Parse a JSON object; `what` names it in the error. Whatever parses can be encoded again.

    Raises:
        FormatError: if `data` is not UTF-8, not JSON, has a key twice, a number or text out of range, or is not an object.
    """
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite_float)
        if "\\ud" in text.lower():
            encode(value)  # half of a surrogate pair is legal in JSON and not in UTF-8
    except (ValueError, RecursionError, FormatError) as error:
        raise FormatError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    return value


def decode_known(data: bytes, what: str) -> JsonObject:
    """Parse a JSON object whose digest was checked; twice as fast as `decode`, since it does not look for keys that appear twice.

    Raises:
        FormatError: if `data` is not UTF-8, not JSON, has a number out of range, or is not an object.
    """
    try:
        value = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not a JSON object")
    return value


def expect_format(value: JsonObject, name: str, what: str) -> JsonObject:
    """Return `value` if its `format` field is `name`.

    Raises:
        FormatError: if it is another format, or one that this release does not know.
    """
    found = value.get("format")
    if found != name:
        raise FormatError(f"{what} has format {found!r}, expected {name!r}: was it written by another release?")
    return value


def digest(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def finite(value: float) -> float | None:
    """`value`, or None where JSON has no such number (NaN, infinities)."""
    return value if math.isfinite(value) else None


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def _refuse_constant(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite_float, parse_constant=_refuse_constant)
