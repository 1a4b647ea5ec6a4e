"""Who calls, and over what: a bearer token, TLS and client certificates. What the server makes of them is its own affair."""

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import grpc

from tidegate_client.errors import AccessError, InputError

Token: TypeAlias = str | Callable[[], str]
"""A bearer token, or what is asked for one at every call, since tokens are replaced"""

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Identity:
    """The metadata that go with every call of one client.

    Raises:
        InputError: if a token would go over the network in the clear.
    """

    def __init__(self, address: str, metadata: Mapping[str, str] | None, token: Token | None, *, secure: bool) -> None:
        if token is not None and not secure and not _is_local(address):
            raise InputError(f"a token for {address} would go there in the clear: give credentials=tls_credentials(...)")
        self._metadata: Pairs = tuple((metadata or {}).items())
        self._token = token

    def metadata(self) -> Pairs:
        """Those of the next call.

        Raises:
            AccessError: if there is no token that could be sent.
        """
        if self._token is None:
            return self._metadata
        token = self._token if isinstance(self._token, str) else self._token()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise AccessError("the token is not one that can be sent: it must be letters, digits and signs without spaces")
        return (*self._metadata, ("authorization", f"Bearer {token}"))


def tls_credentials(
    ca: Path | str | None = None, certificate: Path | str | None = None, key: Path | str | None = None
) -> grpc.ChannelCredentials:
    """TLS, for `credentials=` of a client.

    Args:
        ca: the authorities that the server's certificate must come from, in PEM; None for those that gRPC brings along.
        certificate: this client's own certificate chain in PEM, for servers that want one.
        key: its private key in PEM.

    Raises:
        InputError: if a file cannot be read, or only one of certificate and key is given.
    """
    if (certificate is None) != (key is None):
        raise InputError("a client certificate and its key go together")
    return grpc.ssl_channel_credentials(*(None if path is None else _read(path) for path in (ca, key, certificate)))


def token_file(path: Path | str) -> Callable[[], str]:
    """The token that stands in a file at the time of each call, for `token=` of a client; AccessError where it cannot be read."""

    def read() -> str:
        try:
            return Path(path).read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise AccessError(f"cannot read the token in {path}: {error.strerror}") from error

    return read


def _read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _is_local(address: str) -> bool:
    if address.startswith("unix"):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2]
    host = host.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
