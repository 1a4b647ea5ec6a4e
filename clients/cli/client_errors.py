"""The way to the daemon: a client of the SDK, and what it refuses in the words and exit codes of the command.

Imported only by commands that ask the daemon.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.cli.errors import InputError, RefusedError
from tidegate_client import Client, tls_credentials, token_file
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


@contextmanager
def daemon_at(address: str, token: Path | None, ca: Path | None, certificate: Path | None, key: Path | None) -> Iterator[Client]:
    """A client of the daemon at `address`, with TLS if there are authorities; its errors are turned as above.

    Raises:
        InputError: also for a certificate that would be shown to nobody.
    """
    if ca is None and (certificate or key):
        raise InputError("--client-cert and --client-key need --tls-ca: without TLS there is nobody to show a certificate to")
    with asking_the_daemon():
        credentials = None if ca is None else tls_credentials(ca, certificate, key)
        with Client(address, credentials=credentials, token=None if token is None else token_file(token)) as found:
            yield found
