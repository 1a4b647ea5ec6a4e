"""Files that say who may do what, or hold keys: how they are read, and that they are read again when they change.

What stands in them is for `tokens`, `jwt_keys` and `tls`.
"""

import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import structlog

from server.errors import SettingsError

T = TypeVar("T")
MAX_BYTES = 16 << 20
POLL_SECONDS = 1.0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_log = structlog.get_logger("tidegate.security")

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Of every file: name, inode, size, time of its last change in nanoseconds, of its mode too: a file may have been refused for that"""


def read_guarded(path: Path, *, secret: bool = False) -> bytes:
    """The bytes of a file that nobody but its owner may write; of a `secret` one it is said if everybody may read it.

    Raises:
        SettingsError: if it cannot be read, is no ordinary file, is larger than 16 MiB, or others may write it.
    """
    try:
        # Not to wait, where it is a pipe, for somebody who writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"{path} is not a file")
            if status.st_mode & _WRITABLE_BY_OTHERS:
                raise SettingsError(f"{path} may be written by others than its owner: chmod go-w {path}")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    if secret and status.st_mode & stat.S_IROTH:
        _log.warning("everybody on this machine may read a private key", path=str(path), hint=f"chmod o-r {path}")
    return data


def files_of(path: Path, pattern: str) -> list[Path]:
    """`path` itself, or what matches `pattern` in the folder that it is."""
    return sorted(path.glob(pattern)) if path.is_dir() else [path]


class Reloaded(Generic[T]):
    """A value read from files, and read again when one of them is replaced; if that fails, the last good value stays.

    `files` says which they are now; `read` makes the value of them and raises SettingsError.
    """

    def __init__(self, what: str, files: Callable[[], Sequence[Path]], read: Callable[[], T]) -> None:
        self._what = what
        self._files = files
        self._read = read
        # Taken before the reading: a change in the middle of it is seen by the next look.
        self._seen = _fingerprint(files())
        self.value = read()
        """What the files said when they were last good"""

    def refresh(self) -> bool:
        """Read again if a file has changed since the last look; returns whether there is a new value."""
        found = _fingerprint(self._files())
        if found == self._seen:
            return False
        self._seen = found
        try:
            self.value = self._read()
        except SettingsError as error:
            _log.error("a changed file is not usable, what it said before stays in force", what=self._what, error=str(error))
            return False
        except Exception:  # noqa: BLE001 -- whatever one file holds, the others are looked at, and what has changed there takes effect
            _log.exception("a changed file could not be read, what it said before stays in force", what=self._what)
            return False
        _log.info("read again", what=self._what)
        return True


class Reloader:
    """Looks at files every second, on a thread of its own; `changed` is called after at least one value is new."""

    def __init__(self, values: Sequence[Reloaded[Any]], changed: Callable[[], None]) -> None:
        self._values = values
        self._changed = changed
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secret-files", daemon=True)

    def start(self) -> None:
        """Begin to look; without files there is nothing to look at."""
        if self._values:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._values:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                if sum(value.refresh() for value in self._values):  # each of them, where `any` would end at the first
                    self._changed()
            except Exception:  # noqa: BLE001 -- whatever it is, the next change has to be seen
                _log.exception("looking at the files failed")


def _fingerprint(paths: Sequence[Path]) -> Fingerprint:
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), status.st_ino, status.st_size, status.st_ctime_ns
