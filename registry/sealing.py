"""The two fields that guard a JSON object: `checksum`, which finds damage, and `signature`, which says who wrote it. No keys here.

The checksum is the sha256 of the canonical encoding of all other fields, the signature included; what a signature covers is `signing`'s.
"""

from collections.abc import Callable
from typing import TypeAlias

from registry import canonical
from registry.canonical import JsonObject
from registry.errors import FormatError

CHECKSUM = "checksum"
SIGNATURE = "signature"

Sign: TypeAlias = Callable[[JsonObject], JsonObject]
"""Adds a signature to an object, or returns it as it is."""


def unsigned(value: JsonObject) -> JsonObject:
    """The `Sign` of who has no key."""
    return value


def seal(value: JsonObject) -> bytes:
    """Canonical bytes of `value` with its checksum.

    Raises:
        FormatError: if it holds what JSON cannot.
    """
    return canonical.encode({**value, CHECKSUM: canonical.digest(canonical.encode(value))})


def unseal(raw: bytes, form: str, what: str) -> JsonObject:
    """Read what `seal` wrote, of format `form`; `what` names it in the error.

    Raises:
        FormatError: if it is not a canonical JSON object of this format, or differs from its own checksum.
    """
    value = canonical.expect_format(canonical.decode_exact(raw, what), form, what)
    stated = value.get(CHECKSUM)
    # In a canonical encoding the field stands once among its neighbours: without it the rest is, nearly always, what was summed up.
    rest = raw.replace(f'"{CHECKSUM}":"{stated}",'.encode("utf-8", "replace"), b"", 1)
    if canonical.digest(rest) != stated and _checksum(value) != stated:
        raise FormatError(f"{what} differs from its own checksum: its bytes changed after it was written")
    return value


def _checksum(value: JsonObject) -> str:
    return canonical.digest(canonical.encode({key: item for key, item in value.items() if key != CHECKSUM}))
