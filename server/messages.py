"""Reading a protocol message that somebody sent: the one place where bytes that are none become a refusal."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from server.errors import InputMismatchError

M = TypeVar("M", bound=Message)
MAX_BYTES = 4 << 20
"""Of every request but an inference: to read one of more would hold up the thread that serves all, for whoever may open a connection."""


def parse(message: type[M], data: bytes, max_bytes: float = MAX_BYTES) -> M:
    """The message in `data`.

    Raises:
        InputMismatchError: if it is no such message, or takes more than `max_bytes`.
    """
    if len(data) > max_bytes:
        raise InputMismatchError(f"a {message.DESCRIPTOR.name} of {len(data)} bytes is not read: at most {max_bytes} are")
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InputMismatchError(f"the request is not a {message.DESCRIPTOR.name}: {error}") from error
