"""The prediction log: what was asked and answered goes to Parquet files, on a thread of its own and never in the way of an answer.

It imports pyarrow (through `prediction_table`), so it is itself imported only where a log is asked for.
"""

import datetime as dt
import threading
from pathlib import Path

import structlog

from server import arrow, prediction_table
from server.errors import SettingsError
from server.log_files import LogFiles
from server.metrics import LogCounts
from server.observed import LoggedBatch
from server.prediction_table import Privacy
from server.settings import Settings

FLUSH_ROWS = 65_536
MAX_ROWS = 4 * FLUSH_ROWS
MAX_BYTES = 128 << 20
"""Most that may wait for the writer; as much again may be in its hands."""
_STOP_SECONDS = 30.0
_SHORTEST_KEY = 16

_log = structlog.get_logger("tidegate.prediction_log")


class PredictionLog:
    """Batches wait in a bounded queue; what does not fit is dropped and counted."""

    def __init__(self, files: LogFiles, *, share: float, privacy: Privacy, seconds: float) -> None:
        self.share = share
        self._files = files
        self._privacy = privacy
        self._seconds = seconds
        self._queue: list[LoggedBatch] = []
        self._rows = self._bytes = 0
        self._written = self._queue_full = self._write_failed = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def offer(self, batch: LoggedBatch) -> None:
        """Take a batch to be logged, or drop it if the writer is behind; never waits for the disk. Its arrays must not change any more."""
        size = batch.size
        with self._changed:
            if self._stopped or self._rows + batch.rows > MAX_ROWS or self._bytes + size > MAX_BYTES:
                self._queue_full += batch.rows
                return
            self._queue.append(batch)
            self._rows += batch.rows
            self._bytes += size
            if self._rows >= FLUSH_ROWS:
                self._changed.notify()

    def counts(self) -> LogCounts:
        """All counts since the start."""
        with self._changed:
            return LogCounts(self._written, self._queue_full, self._write_failed)

    def stop(self) -> None:
        """Write what is queued, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        stopped = False
        while not stopped:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._rows >= FLUSH_ROWS, self._seconds)
                batches, self._queue, self._rows, self._bytes = self._queue, [], 0, 0
                stopped = self._stopped
            if batches:
                self._write(batches)
            self._sweep()

    def _write(self, batches: list[LoggedBatch]) -> None:
        for alike in prediction_table.alike(batches):
            written = failed = 0
            try:
                for day, rows in prediction_table.by_date(alike, self.share, self._privacy):
                    self._files.write({"model": alike[0].model, "version": alike[0].version}, day, arrow.encode(rows))
                    written += rows.num_rows
            except Exception as error:  # noqa: BLE001 -- a full disk or a defect here must harm no answer, nor end the log
                failed = sum(batch.rows for batch in alike) - written
                _log.error("predictions not logged", model=alike[0].model, rows=failed, error=str(error))
            with self._changed:
                self._written += written
                self._write_failed += failed

    def _sweep(self) -> None:
        try:
            self._files.sweep(dt.datetime.now(dt.UTC).date())
        except OSError as error:
            _log.error("old predictions not removed", error=str(error))


def open_prediction_log(folder: Path, settings: Settings) -> PredictionLog:
    """The log in `folder`; it has to be started.

    Raises:
        SettingsError: if the folder cannot be written to, or columns are to be hashed without a key.
    """
    files = LogFiles(folder, settings.prediction_log_keep_days, settings.prediction_log_max_bytes)
    try:
        files.prepare()
    except OSError as error:
        raise SettingsError(f"--prediction-log {folder}: {error.strerror}; choose a folder that can be written to") from error
    privacy = Privacy(frozenset(settings.prediction_log_drop), frozenset(settings.prediction_log_hash), _key(settings))
    return PredictionLog(files, share=settings.prediction_log_share, privacy=privacy, seconds=settings.prediction_log_seconds)


def _key(settings: Settings) -> bytes:
    path = settings.prediction_log_hash_key
    if path is None:
        if settings.prediction_log_hash:
            raise SettingsError("--prediction-log-hash needs a secret: name its file with --prediction-log-hash-key FILE")
        return b""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"--prediction-log-hash-key {path}: {error.strerror}") from error
    if len(key) < _SHORTEST_KEY:
        raise SettingsError(
            f"--prediction-log-hash-key {path}: {len(key)} bytes are too few, take {_SHORTEST_KEY} or more from a random source"
        )
    return key
