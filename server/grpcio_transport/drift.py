"""Remembers the rows that a version answered, arm by arm, and counts many batches at once, off the path of the requests.

How rows are counted is in `server.drift_counting`, what becomes of the counts over time in `server.drift_counters`.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from registry.bundle import Signature
from registry.drift_tally import Tally
from registry.profile import Profile
from server.counts import COUNTED_ARMS
from server.drift_counters import Totals
from server.drift_counting import Counting
from server.drift_places import counted_outputs
from server.engine import Tensor
from server.grpcio_transport.batcher import Batch

MAX_PENDING_BYTES = 64 << 20
"""If so much waits to be counted, whoever brings more counts it first: memory stays bounded and no row is lost."""
_VALUE_BYTES = 8

_Seen: TypeAlias = tuple[Any, ...]
"""How many rows, and the tensors in which they are counted: inputs, then outputs"""


class CountedBatches:
    """See `server.drift_counters.RowCounts`; thread-safe. `observe` only keeps the batch, `totals` counts."""

    def __init__(self, profile: Profile, signature: Signature) -> None:
        self._counting = Counting(profile, signature)
        self._outputs = counted_outputs(profile, signature)
        self._inputs = tuple(name for name in self._counting.tensors if name not in self._outputs)
        self._output_bytes = _VALUE_BYTES * len(signature.classes) * len(self._outputs)
        self._totals = dict.fromkeys(COUNTED_ARMS, Tally.nothing(profile))
        self._lost: frozenset[str] = frozenset()
        self._pending: dict[str, deque[_Seen]] = {arm: deque() for arm in COUNTED_ARMS}
        self._pending_bytes = 0
        self._lock = threading.Lock()

    def observe(self, batch: Batch) -> None:
        """Remember the rows of a batch that drift is counted of; on the thread that serves, so nothing is computed here."""
        seen = (batch.rows, *map(batch.inputs.__getitem__, self._inputs), *map(batch.outputs.__getitem__, self._outputs))
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
        self._pending_bytes += size + batch.rows * self._output_bytes
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.totals()

    def totals(self) -> Totals:
        """Count all that is remembered."""
        with self._lock:
            self._pending_bytes = 0
            for arm, pending in self._pending.items():
                if seen := [pending.popleft() for _ in range(len(pending))]:
                    self._count(arm, seen)
            return Totals(dict(self._totals), self._lost)

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
        counts, lost = self._counting.count(dict(_joined((*self._inputs, *self._outputs), rows, columns)))
        self._totals[arm] += Tally(rows, counts)
        self._lost |= lost


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
