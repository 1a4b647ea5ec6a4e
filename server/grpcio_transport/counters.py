"""Counts requests and batches as they are answered; thread-safe. The values that come out are in `server.counts`."""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

from server.counts import ROWS, SECONDS, Counters, DriftCounts, Histogram, VersionCounts, VersionKey
from server.grpcio_transport.batcher import Batch


class RequestCounters:
    """All counts of one transport but those of drift."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._rejected: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._versions: defaultdict[VersionKey, _VersionCounters] = defaultdict(_VersionCounters)

    def answered(self, key: VersionKey, arm: str, code: str, seconds: float) -> None:
        """One request to a known version has its answer, `seconds` after it came."""
        with self._lock:
            self._requests[key[0], str(key[1]), arm, code] += 1
            self._versions[key].request_seconds.add(seconds)

    def unrouted(self, code: str) -> None:
        """One request was refused before a version was chosen for it; its names are the caller's, so they are not used as labels."""
        with self._lock:
            self._requests["", "", "", code] += 1

    def rejected(self, model: str, reason: str) -> None:
        """One request to a known model, or to none (an empty name), was refused for `reason`."""
        with self._lock:
            self._rejected[model, reason] += 1

    def ran(self, key: VersionKey, batch: Batch) -> None:
        """One batch was computed."""
        with self._lock:
            version = self._versions[key]
            for request in batch.requests:
                version.queue_seconds.add(batch.started - request.queued)
            version.compute_seconds.add(batch.seconds)
            version.batch_rows.add(batch.rows)

    def snapshot(self, queue_rows: Mapping[VersionKey, int], drift: Mapping[VersionKey, DriftCounts]) -> Counters:
        """Everything counted so far, with what others counted."""
        with self._lock:
            versions = {key: version.value() for key, version in self._versions.items()}
            return Counters(dict(self._requests), dict(self._rejected), versions, queue_rows, drift)


class _HistogramCounter:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def value(self) -> Histogram:
        return Histogram(self._bounds, tuple(self._counts), self._total)


class _VersionCounters:
    def __init__(self) -> None:
        self.request_seconds = _HistogramCounter(SECONDS)
        self.queue_seconds = _HistogramCounter(SECONDS)
        self.compute_seconds = _HistogramCounter(SECONDS)
        self.batch_rows = _HistogramCounter(ROWS)

    def value(self) -> VersionCounts:
        return VersionCounts(
            self.request_seconds.value(), self.queue_seconds.value(), self.compute_seconds.value(), self.batch_rows.value()
        )
