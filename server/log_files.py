"""The folder of a log of Parquet files: where a file goes, how it appears there whole or not at all, and which are removed again.

Several processes may write to one folder: every file has a name of its own, and removing one that is gone already is no error.
"""

import contextlib
import datetime as dt
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

TEMPORARY = ".tmp"
_LEFT_OVER_SECONDS = 3600.0
_SUFFIX = ".parquet"


class LogFiles:
    """Files `<name>=<value>/.../date=<YYYY-MM-DD>/<start>-<uuid>.parquet` below `root`, for the user alone to read.

    `keep_days` and `max_bytes` bound what `sweep` leaves; None: no bound.
    """

    def __init__(self, root: Path, keep_days: int | None = None, max_bytes: int | None = None) -> None:
        self._root = root
        self._keep_days = keep_days
        self._max_bytes = max_bytes

    def prepare(self) -> None:
        """Make the folder, and remove what a crash has left half written. Raises OSError if it cannot be written to."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self._root / f".{uuid.uuid4()}{TEMPORARY}"
        probe.touch(0o600)
        probe.unlink()
        for path in self._root.rglob(f".*{TEMPORARY}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
                    path.unlink()

    def write(self, parts: Mapping[str, str | int], day: str, content: Any) -> None:
        """Add a file to the folder that `parts` and `day` name; `content` is anything with the buffer interface.

        When it returns, the file is there even after a power cut. Raises OSError, and leaves nothing behind.
        """
        folder = self._folder({**parts, "date": day})
        name = str(uuid.uuid4())
        temporary = folder / f".{name}{TEMPORARY}"
        final = folder / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{name}{_SUFFIX}"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a file that shows up is whole, even after a power cut
            temporary.rename(final)
            _sync(folder)
        except OSError:
            temporary.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            raise

    def _folder(self, parts: Mapping[str, str | int]) -> Path:
        folder = self._root
        for name, value in parts.items():
            above, folder = folder, folder / f"{name}={quote(str(value), safe='')}"
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync(above)
        return folder

    def sweep(self, today: dt.date) -> None:
        """Remove the files of days that are over for longer than allowed, and the oldest until the rest has no more bytes than allowed."""
        if self._keep_days is None and self._max_bytes is None:
            return
        files = sorted(self._files(), reverse=True)
        oldest = (today - dt.timedelta(days=self._keep_days)).isoformat() if self._keep_days is not None else ""
        total = 0
        for day, _, path, size in files:
            total += size
            if day < oldest or (self._max_bytes is not None and total > self._max_bytes):
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()

    def _files(self) -> Iterator[tuple[str, str, Path, int]]:
        for path in self._root.glob(f"**/date=*/*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                yield path.parent.name.removeprefix("date="), path.name, path, path.stat().st_size


def _sync(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
