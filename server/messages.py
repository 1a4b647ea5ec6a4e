"""Reading a protocol message that somebody sent: the one place where bytes that are none become a refusal."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from server.errors import InputMismatchError

M = TypeVar("M", bound=Message)


def parse(message: type[M], data: bytes) -> M:
    """The message in `data`.

    Raises:
        InputMismatchError: if it is no such message.
    """
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InputMismatchError(f"the request is not a {message.DESCRIPTOR.name}: {error}") from error
