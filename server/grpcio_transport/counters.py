"""Counts requests and batches as they are answered. A request only appends to a list; adding up is done later, for many at once.

The values that come out are in `server.counts`.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from server.counts import ROWS, SECONDS, Counters, DriftCounts, Histogram, VersionCounts, VersionKey
from server.grpcio_transport.batcher import Batch


class _Ran(NamedTuple):
    """A batch: seconds it ran, seconds that its requests had waited, and when it ended, in seconds since 1970."""

    key: VersionKey
    rows: int
    seconds: float
    queued: list[float]
    ended: float


class RequestCounters:
    """All counts of one transport but those of drift; thread-safe."""

    def __init__(self) -> None:
        self._answers: deque[tuple[VersionKey | None, str, str, float]] = deque()
        self._batches: deque[_Ran] = deque()
        self._rejections: deque[tuple[str, str]] = deque()
        self._requests: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()
        self._versions: dict[VersionKey, _VersionCounters] = {}
        self._lock = threading.Lock()

    def answered(self, key: VersionKey, arm: str, code: str, seconds: float) -> None:
        """One request to a known version has its answer, `seconds` after it came."""
        self._answers.append((key, arm, code, seconds))

    def unrouted(self, code: str) -> None:
        """One request was refused before a version was chosen for it; its names are the caller's, so they are not used as labels."""
        self._answers.append((None, "", code, 0.0))

    def rejected(self, model: str, reason: str) -> None:
        """One request to a known model, or to none (an empty name), was refused for `reason`."""
        self._rejections.append((model, reason))

    def ran(self, key: VersionKey, batch: Batch) -> None:
        """One batch was computed."""
        queued = [batch.started - piece.waiting.queued for piece in batch.pieces if not piece.start]
        self._batches.append(_Ran(key, batch.rows, batch.seconds, queued, time.time()))

    def fold(self) -> None:
        """Add up all that was noted since the last time."""
        with self._lock:
            self._fold_answers([self._answers.popleft() for _ in range(len(self._answers))])
            self._fold_batches([self._batches.popleft() for _ in range(len(self._batches))])
            self._rejected.update([self._rejections.popleft() for _ in range(len(self._rejections))])

    def snapshot(self, queue_rows: Mapping[VersionKey, int], drift: Mapping[VersionKey, DriftCounts], in_flight: int) -> Counters:
        """Everything counted so far, with what others counted."""
        self.fold()
        with self._lock:
            versions = {key: version.value() for key, version in self._versions.items()}
            return Counters(dict(self._requests), dict(self._rejected), versions, queue_rows, drift, in_flight)

    def _fold_answers(self, answers: Sequence[tuple[VersionKey | None, str, str, float]]) -> None:
        self._requests.update([(key[0], str(key[1]), arm, code) if key else ("", "", "", code) for key, arm, code, _ in answers])
        seconds: dict[VersionKey, list[float]] = {}
        for key, _, code, value in answers:
            if key:
                seconds.setdefault(key, []).append(value)
                if code != "OK":
                    self._version(key).failed_seconds += value
        for key, values in seconds.items():
            self._version(key).request_seconds.add(values)

    def _fold_batches(self, batches: Sequence[_Ran]) -> None:
        by_version: dict[VersionKey, list[_Ran]] = {}
        for ran in batches:
            by_version.setdefault(ran.key, []).append(ran)
        for key, those in by_version.items():
            version = self._version(key)
            version.batch_rows.add([ran.rows for ran in those])
            version.compute_seconds.add([ran.seconds for ran in those])
            version.queue_seconds.add([seconds for ran in those for seconds in ran.queued])
            version.last_answer = those[-1].ended

    def _version(self, key: VersionKey) -> "_VersionCounters":
        return self._versions.setdefault(key, _VersionCounters())


class _HistogramCounter:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._total = 0.0

    def add(self, values: Sequence[float]) -> None:
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._total += sum(values)

    def value(self) -> Histogram:
        return Histogram(self._bounds, tuple(self._counts.tolist()), self._total)


class _VersionCounters:
    def __init__(self) -> None:
        self.request_seconds = _HistogramCounter(SECONDS)
        self.queue_seconds = _HistogramCounter(SECONDS)
        self.compute_seconds = _HistogramCounter(SECONDS)
        self.batch_rows = _HistogramCounter(ROWS)
        self.failed_seconds = 0.0
        self.last_answer = 0.0

    def value(self) -> VersionCounts:
        return VersionCounts(
            self.request_seconds.value(),
            self.queue_seconds.value(),
            self.compute_seconds.value(),
            self.batch_rows.value(),
            self.failed_seconds,
            self.last_answer,
        )
