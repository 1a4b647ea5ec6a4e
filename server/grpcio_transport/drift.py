"""Remembers the rows that versions answered, arm by arm, and counts many batches at once, off the path of the requests.

How rows are counted is in `server.drift_counting`, what becomes of the counts over time in `registry.drift_windows`.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import structlog

from registry.drift_tally import Tally
from registry.drift_windows import DriftWindows
from registry.profile import Profile
from server.clock import Clock
from server.counts import COUNTED_ARMS, PRODUCTION, PRODUCTION_ARMS, DriftCounts, VersionKey
from server.drift_counting import Counting
from server.engine import Columns, Tensor
from server.grpcio_transport.batcher import Batch
from server.loaded_version import LoadedVersion

MAX_PENDING_BYTES = 64 << 20
"""If so much waits to be counted, whoever brings more counts it first: memory stays bounded and no row is lost."""
KEPT_UNLOADED = 32
"""Versions that are loaded no more and whose counts are kept, in case they are loaded again; of more, the first to go are forgotten."""
_VALUE_BYTES = 8

_Seen: TypeAlias = tuple[Any, ...]
"""How many rows, and the tensors in which they are counted: inputs, then outputs"""

_log = structlog.get_logger("tidegate.drift")


class DriftCounter:
    """The counts of one version; thread-safe. `observe` only keeps the batch, `fold` counts."""

    def __init__(self, version: LoadedVersion, profile: Profile, clock: Clock) -> None:
        # Not the version itself: its model must go when it is unloaded.
        self._key = version.key
        self._files = (version.digest, version.signature, profile)
        self._profile = profile
        self._clock = clock
        self._counting = Counting(profile, version.signature)
        self.outputs = self._counting.outputs
        """the outputs that every batch needs for the predictions to be counted"""
        self._inputs = tuple(name for name in self._counting.tensors if name not in self.outputs)
        self._output_bytes = _VALUE_BYTES * len(version.signature.classes) * len(self.outputs)
        self._totals = dict.fromkeys(COUNTED_ARMS, Tally.nothing(profile))
        self._windows = dict.fromkeys((PRODUCTION, *COUNTED_ARMS), DriftWindows.begin(profile, clock()))
        self._uncounted: frozenset[str] = frozenset()
        self._pending: dict[str, deque[_Seen]] = {arm: deque() for arm in COUNTED_ARMS}
        self._pending_bytes = 0
        self._lock = threading.Lock()
        self._miss(self._counting.uncounted, "no tensor has their values")

    def is_of(self, version: LoadedVersion) -> bool:
        """Whether `version` is the one that is counted here, perhaps loaded anew."""
        return self._files == (version.digest, version.signature, version.profile)

    def observe(self, batch: Batch) -> None:
        """Remember the rows of a batch that drift is counted of; on the thread that serves, so nothing is computed here."""
        seen = self._seen(batch.rows, batch.inputs, batch.outputs)
        arm, alike, size = batch.pieces[0].waiting.arm, True, 0
        for piece in batch.pieces:
            waiting = piece.waiting
            alike = alike and waiting.arm == arm
            size += waiting.size
        if not alike:
            self._remember_apart([(piece.waiting.arm, piece.rows) for piece in batch.pieces], seen)
        elif arm in self._pending:
            self._pending[arm].append(seen)
        # The size of a message has that of its texts, which the size of a tensor has not.
        self._hold(size + batch.rows * self._output_bytes)

    def observe_runs(self, runs: Sequence[tuple[str, int]], inputs: Columns, outputs: Columns, size: int) -> None:
        """Remember rows of which the first so many are of the first arm, and so on; they and their texts take `size` bytes."""
        rows = sum(number for _, number in runs)
        self._remember_apart(runs, self._seen(rows, inputs, outputs))
        self._hold(size)

    def fold(self) -> None:
        """Count all that is remembered, and end the windows whose time has come."""
        with self._lock:
            self._pending_bytes = 0
            for arm, pending in self._pending.items():
                if seen := [pending.popleft() for _ in range(len(pending))]:
                    self._count(arm, seen)
            self._windows = self._advanced(self._clock())

    def counts(self) -> DriftCounts:
        """The counts of every batch observed so far."""
        self.fold()
        with self._lock:
            return DriftCounts(self._profile, self._windows, self._uncounted)

    def _seen(self, rows: int, inputs: Columns, outputs: Columns) -> _Seen:
        return (rows, *map(inputs.__getitem__, self._inputs), *map(outputs.__getitem__, self.outputs))

    def _hold(self, size: int) -> None:
        self._pending_bytes += size
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.fold()

    def _remember_apart(self, runs: Sequence[tuple[str, int]], seen: _Seen) -> None:
        """Rows of several arms, each under its own; those of callers who named the version are of none."""
        start = 0
        for arm, alike in groupby(runs, lambda run: run[0]):
            rows = sum(number for _, number in alike)
            if arm in self._pending:
                self._pending[arm].append((rows, *[tensor[start : start + rows] for tensor in seen[1:]]))
            start += rows

    def _count(self, arm: str, seen: Sequence[_Seen]) -> None:
        sizes, *columns = zip(*seen, strict=True)
        rows = sum(sizes)
        counts, lost = self._counting.count(dict(_joined((*self._inputs, *self.outputs), rows, columns)))
        tally = Tally(rows, counts)
        self._totals[arm] += tally
        self._miss(lost, "a tensor came in another shape or type than the signature has it")

    def _advanced(self, now: float) -> dict[str, DriftWindows]:
        """The windows at `now`; arms that have seen the same so far, as production does without a canary, are advanced once for all."""
        stable, canary = (self._totals[arm] for arm in PRODUCTION_ARMS)
        production = stable + canary if stable.rows and canary.rows else canary if canary.rows else stable
        totals = {PRODUCTION: production, **self._totals}
        advanced: dict[tuple[int, int], DriftWindows] = {}
        for arm, windows in self._windows.items():
            seen = id(windows), id(totals[arm])
            if seen not in advanced:
                advanced[seen] = windows.advance(now, totals[arm])
        return {arm: advanced[id(windows), id(totals[arm])] for arm, windows in self._windows.items()}

    def _miss(self, features: frozenset[str], why: str) -> None:
        """Say once of a feature that its counts are not, or not all, there."""
        if lost := sorted(features - self._uncounted):
            self._uncounted |= features
            model, version = self._key
            _log.warning("features are not counted", model=model, version=version, features=lost[:10], number=len(lost), why=why)


class DriftCounters:
    """The counter of every loaded version that has a profile, and of some that are loaded no more: loaded again, they count on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loaded: dict[VersionKey, DriftCounter] = {}
        self._unloaded: dict[VersionKey, DriftCounter] = {}

    @property
    def loaded(self) -> Mapping[VersionKey, DriftCounter]:
        """Of the versions loaded now."""
        return dict(self._loaded)

    def begin(self, version: LoadedVersion) -> DriftCounter | None:
        """The counter of a version that is loaded: the one it had before, if it had one; None if it has no profile to count by."""
        kept = self._unloaded.pop(version.key, None)
        if version.profile is None:
            return None
        counter = kept if kept and kept.is_of(version) else DriftCounter(version, version.profile, self._clock)
        self._loaded[version.key] = counter
        return counter

    def end(self, key: VersionKey) -> None:
        """A version is unloaded: its counts are kept for a while."""
        if counter := self._loaded.pop(key, None):
            self._unloaded[key] = counter
            while len(self._unloaded) > KEPT_UNLOADED:
                del self._unloaded[next(iter(self._unloaded))]

    def fold(self) -> None:
        """Count what is remembered of all, and end their windows: of those unloaded too, whose time goes on."""
        for key, counter in (*self._loaded.items(), *self._unloaded.items()):
            try:
                counter.fold()
            except Exception:  # noqa: BLE001 -- a defect with one version must not end the thread that counts for all
                _log.exception("rows could not be counted", model=key[0], version=key[1])


def _joined(names: Sequence[str], rows: int, columns: Sequence[Sequence[Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """One tensor [rows, ...] of each name, but of those whose parts do not make one: no feature can be counted in them."""
    for name, parts in zip(names, columns, strict=True):
        with contextlib.suppress(ValueError, BufferError):
            yield name, _whole(parts, (rows, *parts[0].shape[1:]))


def _whole(parts: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
    if parts[0].dtype == object:
        return np.concatenate(parts).reshape(shape)
    # For the many small parts that there are under load this takes a quarter of the time of `concatenate`.
    return np.frombuffer(b"".join(parts), parts[0].dtype).reshape(shape)  # type: ignore[arg-type]  # arrays are buffers
