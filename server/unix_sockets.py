"""Unix sockets as addresses: what `unix:PATH` means, and how the socket of a daemon comes to stand at its path and goes again.

Transports listen where they are told, and know nothing of it.
"""

import contextlib
import fcntl
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from server.errors import SettingsError

SCHEME = "unix:"
MODE = 0o600
LONGEST = 107
"""Bytes of a path that a socket's address has room for"""
_ADDRESS = re.compile(r"unix:(?://(?=/))?(?P<path>(?!//)[^?#,\0]+)")
"""gRPC takes what follows a comma for another address, and a query or fragment for no part of the path"""


def path_of(address: str) -> Path | None:
    """The path in `unix:relative`, `unix:/absolute` or `unix:///absolute`, as gRPC reads it; None for another kind of address.

    Raises:
        ValueError: if it is of this kind and names none.
    """
    if not address.startswith(SCHEME):
        return None
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"{address!r} is not unix:PATH or unix:///PATH")
    return Path(unquote(match["path"]))


class UnixPlace:
    """The socket of one daemon. It listens in a folder of its own first: at its path it appears with its mode set, or not at all."""

    def __init__(self, address: str, path: Path) -> None:
        """Make that folder.

        Raises:
            SettingsError: if there can be no socket at the path.
        """
        self._address = address
        self._path = path
        self._inode = 0
        if len(os.fsencode(path)) > LONGEST:
            raise self._refusal(f"the path of a socket has at most {LONGEST} bytes")
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=".", dir=path.parent)
        except OSError as error:
            raise self._refusal(error.strerror) from error
        self._private = Path(self._folder.name) / "s"
        if len(os.fsencode(self._private)) > LONGEST:
            self._folder.cleanup()
            raise self._refusal(f"the path of the folder leaves no room among the {LONGEST} bytes of a socket's")

    @property
    def bound(self) -> str:
        """The address to listen on."""
        return SCHEME + quote(str(self._private))

    def publish(self) -> str:
        """Put the socket, which listens by now, at its path, in place of one that a dead daemon has left; returns its address.

        Raises:
            SettingsError: if somebody listens there, or what is there is no socket.
        """
        try:
            with _alone_in(self._path.parent):
                self._check_free()
                self._private.chmod(MODE)
                self._inode = self._private.stat().st_ino
                self._private.rename(self._path)
        except OSError as error:
            raise self._refusal(error.strerror) from error
        finally:
            self._folder.cleanup()
        return self._address

    def remove(self) -> None:
        """Take the socket away, if it is still this daemon's."""
        with contextlib.suppress(OSError), _alone_in(self._path.parent):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _check_free(self) -> None:
        if not os.path.lexists(self._path):
            return
        if not self._path.is_socket():
            raise self._refusal("there is something that is no socket")
        with socket.socket(socket.AF_UNIX) as caller, contextlib.suppress(ConnectionRefusedError):
            caller.settimeout(0)  # a daemon that is too busy to accept is there all the same
            with contextlib.suppress(BlockingIOError):
                caller.connect(os.fspath(self._path))
            raise self._refusal("it is taken")

    def _refusal(self, why: str | None) -> SettingsError:
        return SettingsError(f"cannot listen on {self._address}: {why}; choose another with --grpc-address")


def place_for(address: str) -> UnixPlace | None:
    """The place of a Unix socket, None for another kind of address.

    Raises:
        SettingsError: if there can be no socket at the path.
    """
    path = path_of(address)
    return None if path is None else UnixPlace(address, path)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold others up that want to place or remove a socket in the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
