"""How many fields and numbers a ModelInferRequest has, before it is parsed: what makes objects of them holds the interpreter meanwhile.

20 MB of empty fields take protobuf two seconds, 60 MB of packed numbers take it and numpy eight, and two gigabytes; nobody else is answered
in them. This walk gives way to other threads, and stops at the bound. The layout of the bytes is that of "Encoding" in the documentation
of Protocol Buffers; whether they are a message is not judged here.
"""

from collections.abc import Iterator

from server.errors import InputMismatchError

MAX_FIELDS = 1 << 18
MAX_PACKED_BYTES = 4 << 20
"""Of the numbers in typed contents and shapes: a million of FP32. In raw contents they are no objects, and there is no such bound."""
SMALL_BYTES = 2 * MAX_FIELDS
"""A request of no more is parsed as it is: a field takes two bytes at least, and to count them takes longer than to parse them."""
_INPUT, _OUTPUT, _SHAPE, _CONTENTS, _TEXTS = 5, 6, 3, 5, 8
_FIXED = {1: 8, 5: 4}
_LENGTH_DELIMITED = 2
_GROUP, _GROUP_END = 3, 4
_SEVEN_BITS, _LONGEST = 127, 63
_NESTED = {(0, _INPUT), (0, _OUTPUT), (1, _CONTENTS)}
"""Depth and number of the fields that are messages, and may have many fields themselves."""
_PACKED = {(1, _SHAPE), *((2, number) for number in range(1, _TEXTS))}
"""The same of those that hold numbers without end."""


def check_fields(data: bytes) -> None:
    """Return if a request has no more than `MAX_FIELDS` fields, those within its inputs and outputs counted as well, nor too many numbers.

    Raises:
        InputMismatchError: if it has more, or its typed numbers take more than `MAX_PACKED_BYTES`.
    """
    if len(data) <= SMALL_BYTES:
        return
    packed = 0
    for number, size in enumerate(_fields(data)):
        packed += size
        if number >= MAX_FIELDS:
            raise InputMismatchError(f"the request has more than {MAX_FIELDS} fields: send text in raw_input_contents")
        if packed > MAX_PACKED_BYTES:
            raise InputMismatchError(f"typed numbers take more than {MAX_PACKED_BYTES >> 20} MiB: send them in raw_input_contents")


def _fields(data: bytes) -> Iterator[int]:
    """For every field the bytes of packed numbers in it."""
    parts: list[tuple[int, int, int]] = [(0, len(data), 0)]
    while parts:
        place, stop, depth = parts.pop()
        groups = 0
        while place < stop:
            packed = 0
            tag, place = _varint(data, place)
            kind = tag & 7
            if kind == 0:
                _, place = _varint(data, place)
            elif kind == _LENGTH_DELIMITED:
                size, place = _varint(data, place)
                end = min(place + size, stop)
                if not groups and (depth, tag >> 3) in _NESTED:
                    parts.append((place, end, depth + 1))
                elif not groups and (depth, tag >> 3) in _PACKED:
                    packed = end - place
                place += size
            elif kind == _GROUP:
                groups += 1
            elif kind == _GROUP_END and groups:
                groups -= 1
            elif kind in _FIXED:
                place += _FIXED[kind]
            else:
                return  # no message at all: protobuf refuses it
            yield packed


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
