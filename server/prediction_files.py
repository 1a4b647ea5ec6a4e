"""The folder of the prediction log: where a file goes, how it appears there whole or not at all, and which are removed again.

Several processes may write to one folder: every file has a name of its own, and removing one that is gone already is no error.
"""

import contextlib
import datetime as dt
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

TEMPORARY = ".tmp"
_LEFT_OVER_SECONDS = 3600.0
_SUFFIX = ".parquet"


class PredictionFiles:
    """Files `model=<model>/version=<version>/date=<YYYY-MM-DD>/<start>-<uuid>.parquet` below `root`, for the user alone to read."""

    def __init__(self, root: Path, keep_days: int | None, max_bytes: int | None) -> None:
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

    def write(self, model: str, version: int, day: str, content: Any) -> None:
        """Add a file; `content` is anything with the buffer interface. Raises OSError, and leaves nothing behind."""
        folder = self._root
        for part in (f"model={quote(model, safe='')}", f"version={version}", f"date={day}"):
            folder /= part
            folder.mkdir(mode=0o700, exist_ok=True)
        name = str(uuid.uuid4())
        temporary = folder / f".{name}{TEMPORARY}"
        start = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a file that shows up is whole, even after a power cut
            temporary.rename(folder / f"{start}-{name}{_SUFFIX}")
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

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
        for path in self._root.glob(f"model=*/version=*/date=*/*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                yield path.parent.name.removeprefix("date="), path.name, path, path.stat().st_size
