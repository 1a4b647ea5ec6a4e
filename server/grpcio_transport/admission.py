"""Whether a request may wait: a bound on the rows waiting in the whole daemon, so that overload is refused at once and not served late."""

import threading

from server.errors import QueueFullError


class Admission:
    """Counts waiting rows; thread-safe."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._rows = 0
        self._lock = threading.Lock()

    def admit(self, rows: int) -> None:
        """Let `rows` rows wait. A request larger than the bound is let in when nothing else waits, else it could never be answered.

        Raises:
            QueueFullError: if they do not fit.
        """
        with self._lock:
            if self._rows and self._rows + rows > self._max_rows:
                raise QueueFullError(f"{self._rows} rows wait and at most {self._max_rows} may: try again later")
            self._rows += rows

    def release(self, rows: int) -> None:
        """The rows wait no more: answered, failed or given up."""
        with self._lock:
            self._rows -= rows
