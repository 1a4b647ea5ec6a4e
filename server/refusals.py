"""The log of calls that were refused for want of rights: enough to see an attack or a forgotten token, never more than a line a while."""

import math
import threading
import time
from collections.abc import Callable

import structlog

INTERVAL_SECONDS = 10.0

_log = structlog.get_logger("tidegate.security")


class RefusalLog:
    """At most one line in ten seconds, with the number of refusals that were not told; thread-safe. Never a token, nor a part of one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next = -math.inf
        self._untold = 0

    def tell(self, error: Exception, path: str, peer: str) -> None:
        """One call to `path` was refused for `error`; `peer` says where it came from."""
        with self._lock:
            if self._clock() < self._next:
                self._untold += 1
                return
            self._next = self._clock() + INTERVAL_SECONDS
            untold, self._untold = self._untold, 0
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        _log.warning("call refused", path=path, peer=peer, error=str(error), cause=cause, untold=untold)
