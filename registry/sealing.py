"""The two fields that guard a JSON object: `checksum`, which finds damage, and `signature`, which says who wrote it. No keys here.

The checksum is the sha256 of the canonical encoding of all other fields, the signature included; what a signature covers is `signing`'s.
"""

import re
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

    That the bytes are canonical is not looked at where the checksum is right: it takes a third of the time, and whoever can get that wrong
    can write what they like. `check_canonical` does, for who verifies.

    Raises:
        FormatError: if it is not a JSON object of this format, or differs from its own checksum.
    """
    field = _FIELD.search(raw)
    # In a canonical encoding the field stands once among its neighbours: without it the rest is, nearly always, what was summed up.
    if field and canonical.digest(raw[: field.start()] + raw[field.end() :]).encode() == field[1]:
        return canonical.expect_format(canonical.decode_known(raw, what), form, what)
    value = canonical.expect_format(canonical.decode(raw, what), form, what)
    rest = {key: item for key, item in value.items() if key != CHECKSUM}
    if value.get(CHECKSUM) != canonical.digest(canonical.encode(rest)) or canonical.encode(value) != raw:
        raise FormatError(f"{what} differs from its own checksum: its bytes changed after it was written")
    return value


def check_canonical(raw: bytes, what: str) -> None:
    """Refuse JSON that says the same as a canonical encoding in other bytes, or says a thing twice.

    Raises:
        FormatError: if it does.
    """
    if canonical.encode(canonical.decode(raw, what)) != raw:
        raise FormatError(f"{what} is not canonical: no registry wrote it")


_FIELD = re.compile(rb'"checksum":"([0-9a-f]{64})",')
