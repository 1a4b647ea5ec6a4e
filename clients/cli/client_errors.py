"""What the SDK refuses, in the words and exit codes of the command. Imported only by commands that ask the daemon."""

from collections.abc import Iterator
from contextlib import contextmanager

from clients.cli.errors import InputError, RefusedError
from tidegate_client import errors as client

_BAD_INPUT = (client.InputError, client.NotFoundError, client.UnavailableError)


@contextmanager
def asking_the_daemon() -> Iterator[None]:
    """Turn the errors of a block.

    Raises:
        InputError: for wrong rows, names or addresses.
        RefusedError: for anything else that the daemon, or the way to it, refused.
    """
    try:
        yield
    except _BAD_INPUT as error:
        raise InputError(str(error)) from error
    except client.TidegateError as error:
        raise RefusedError(str(error)) from error
