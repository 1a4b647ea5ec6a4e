"""The feedback log: labels in Parquet files, which are on disk before anybody is told that they are kept.

It imports pyarrow (through `feedback_table`), so it is itself imported only where a log is asked for.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import structlog

from server import arrow
from server.errors import FeedbackNotStoredError, SettingsError
from server.feedback import KeptLabel
from server.feedback_table import table
from server.log_files import LogFiles

_log = structlog.get_logger("tidegate.feedback_log")


class FeedbackLog:
    """A file for each call, written by the thread that answers it: labels come in batches, and none may be lost between two of them."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files

    def write(self, model: str, labels: Sequence[KeptLabel], received: float) -> None:
        """Keep labels of a model that came at `received`, in seconds since 1970; when it returns they outlive a power cut.

        Raises:
            FeedbackNotStoredError: if the disk does not take them.
        """
        day = dt.datetime.fromtimestamp(received, dt.UTC).date().isoformat()
        try:
            self._files.write({"model": model}, day, arrow.encode(table(model, labels, received)))
        except OSError as error:
            _log.error("feedback not stored", model=model, labels=len(labels), error=str(error))
            raise FeedbackNotStoredError(f"the labels could not be written ({error.strerror}): none is kept, send them again") from error


def open_feedback_log(folder: Path) -> FeedbackLog:
    """The log in `folder`.

    Raises:
        SettingsError: if the folder cannot be written to.
    """
    files = LogFiles(folder)
    try:
        files.prepare()
    except OSError as error:
        raise SettingsError(f"--feedback-log {folder}: {error.strerror}; choose a folder that can be written to") from error
    return FeedbackLog(files)
