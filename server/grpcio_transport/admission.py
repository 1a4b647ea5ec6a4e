"""Whether a request may wait: bounds on rows and bytes in the whole daemon, rates by principal, and whether its deadline can be met.

Overload is refused at once and not answered late. Thread-safe.
"""

import threading
import time
from collections import OrderedDict

from server.errors import DeadlineUnreachableError, QueueFullError, RateLimitedError
from server.grpcio_transport.fair_queue import HIGH, LOW, NORMAL, SHADOW

SHARES = {HIGH: 1.25, NORMAL: 1.0, LOW: 0.5, SHADOW: 0.25}
"""How much of the bounds each level may fill: the least urgent is refused first, the most urgent finds room when nothing else does."""
CALLER_SHARE = 0.75
"""How much of what its level may fill one caller may: whoever comes next finds room, however much another one sends."""
MAX_BUCKETS = 10_000
"""Principals whose rate is remembered; the one that asked longest ago is forgotten, which gives it its burst again."""


class Admission:
    """Counts the rows and bytes that are admitted and not answered yet."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.requests = 0
        """requests in flight that somebody waits for"""
        self.shadows = 0
        """copies in flight"""
        self.rows = 0
        self.bytes = 0
        self._held: dict[str, tuple[int, int]] = {}
        """rows and bytes by caller, of those that have any"""

    def admit(self, caller: str, level: int, rows: int, size: int) -> None:
        """Let a request of `rows` rows and `size` bytes wait. One with more rows than half the bound counts as half of it.

        So it can be let in beside others, and others beside it; and whatever its size, it is let in when nothing else waits.

        Raises:
            QueueFullError: if it does not fit, or its caller has its share already.
        """
        share = SHARES[level]
        rows = self._counted(rows)
        with self._lock:
            held_rows, held_bytes = self._held.get(caller, (0, 0))
            if self.requests or self.shadows:
                if self.rows + rows > self._max_rows * share or self.bytes + size > self._max_bytes * share:
                    raise QueueFullError("as much waits as may: try again later")
                share *= CALLER_SHARE
                more = held_rows + rows > self._max_rows * share or held_bytes + size > self._max_bytes * share
                if more and (held_rows or held_bytes):
                    raise QueueFullError("as much of this caller waits as may: try again later")
            self._held[caller] = held_rows + rows, held_bytes + size
            self._count(level, 1)
            self.rows += rows
            self.bytes += size

    def release(self, caller: str, level: int, rows: int, size: int) -> None:
        """The request is answered, failed or given up."""
        with self._lock:
            rows = self._counted(rows)
            held_rows, held_bytes = self._held.pop(caller, (0, 0))
            if held_rows > rows or held_bytes > size:
                self._held[caller] = held_rows - rows, held_bytes - size
            self._count(level, -1)
            self.rows -= rows
            self.bytes -= size

    def _count(self, level: int, more: int) -> None:
        if level == SHADOW:
            self.shadows += more
        else:
            self.requests += more

    def _counted(self, rows: int) -> int:
        return min(rows, max(1, self._max_rows // 2))


def check_deadline(expected: float, remaining: float) -> None:
    """Refuse what cannot be answered in time: `expected` seconds are needed and `remaining` are left.

    Raises:
        DeadlineUnreachableError: if they are fewer.
    """
    if expected > remaining:
        raise DeadlineUnreachableError("what waits already takes longer than the deadline allows", expected - remaining)


class RateLimits:
    """A token bucket of rows for each principal (Turner 1986, "New directions in communications")."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, rate: float, burst: float, rows: int) -> None:
        """Take `rows` from the bucket of `name`, which gets `rate` rows a second and holds `burst` at most.

        A request of more than `burst` rows needs a full bucket and leaves it in debt.

        Raises:
            RateLimitedError: if there are not enough in it; says when there will be.
        """
        with self._lock:
            self._take(name, rate, burst, rows, time.monotonic())

    def _take(self, name: str, rate: float, burst: float, rows: int, now: float) -> None:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(burst, now)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        bucket.rows = min(burst, bucket.rows + (now - bucket.at) * rate)
        bucket.at = now
        missing = min(rows, burst) - bucket.rows
        if missing > 0:
            raise RateLimitedError(f"{name or 'the caller'} may ask for {rate:g} rows a second, {burst:g} at once", missing / rate)
        bucket.rows -= rows


class _Bucket:
    __slots__ = ("at", "rows")

    def __init__(self, rows: float, at: float) -> None:
        self.rows = rows
        self.at = at
