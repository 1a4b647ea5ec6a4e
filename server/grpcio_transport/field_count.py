"""How many fields a ModelInferRequest has, before it is parsed: protobuf holds the interpreter while it makes an object of each.

20 MB of empty fields take it two seconds, in which nobody else is answered. This walk gives way to other threads, and stops at the bound.
The layout of the bytes is that of "Encoding" in the documentation of Protocol Buffers; whether they are a message is not judged here.
"""

from collections.abc import Iterator

from server.errors import InputMismatchError

SMALL_BYTES = 1 << 16
"""A request of no more is parsed as it is: its fields are at most half as many."""
MAX_FIELDS = 1 << 18
_INPUT, _CONTENTS = 5, 5
_FIXED = {1: 8, 5: 4}
_LENGTH_DELIMITED = 2
_SEVEN_BITS, _LONGEST = 127, 63


_NESTED = {(0, _INPUT), (1, _CONTENTS)}
"""Depth and number of the fields that are messages, and may have many fields themselves."""


def check_fields(data: bytes) -> None:
    """Return if the request has no more than `MAX_FIELDS` fields, those of its inputs and their contents counted as well.

    Raises:
        InputMismatchError: if it has more.
    """
    if len(data) > SMALL_BYTES and any(number >= MAX_FIELDS for number, _ in enumerate(_fields(data))):
        raise InputMismatchError(f"the request has more than {MAX_FIELDS} fields: send text in raw_input_contents")


def _fields(data: bytes) -> Iterator[None]:
    parts: list[tuple[int, int, int]] = [(0, len(data), 0)]
    while parts:
        place, stop, depth = parts.pop()
        while place < stop:
            yield
            tag, place = _varint(data, place)
            kind = tag & 7
            if kind == 0:
                _, place = _varint(data, place)
            elif kind == _LENGTH_DELIMITED:
                size, place = _varint(data, place)
                if (depth, tag >> 3) in _NESTED:
                    parts.append((place, min(place + size, stop), depth + 1))
                place += size
            elif kind in _FIXED:
                place += _FIXED[kind]
            else:
                return  # a group, or no message at all: protobuf refuses it


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at `place` and where it ends; behind the end of the data there are zeros."""
    number = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        number |= (byte & _SEVEN_BITS) << shift
        shift += 7
        if byte <= _SEVEN_BITS or shift > _LONGEST:
            break
    return number, place
