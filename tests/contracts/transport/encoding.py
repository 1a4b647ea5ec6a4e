"""Writes protocol messages byte by byte ("Encoding", Protocol Buffers documentation), in forms that no library does. No test lives here."""

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)


def varint(number: int) -> bytes:
    """A number as a varint of the least bytes."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def tag(number: int, kind: int) -> bytes:
    """What stands before a field."""
    return varint(number << 3 | kind)


def field(number: int, *parts: bytes) -> bytes:
    """A field of text, bytes, a message or packed numbers."""
    data = b"".join(parts)
    return tag(number, BYTES) + varint(len(data)) + data


def group(number: int, *parts: bytes) -> bytes:
    """A group, which no message of ours has."""
    return tag(number, GROUP) + b"".join(parts) + tag(number, GROUP_END)
