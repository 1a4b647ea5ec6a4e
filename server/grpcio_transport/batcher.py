"""Gathers the requests of one version into batches and runs them, on one thread of its own.

It never waits while the engine is idle: what came while the engine ran is the next batch. (To wait a moment where requests came together
just before was tried: measured turn by turn, it made half of them slower and none faster.) A cancelled or expired request is dropped
before the run; a batch that fails is halved until only the requests at fault fail.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from server.engine import Columns, decoded, encoded, joined, rows_of
from server.errors import DeadlineExceededError, ModelFailedError, RequestError
from server.grpcio_transport.fair_queue import FairQueue, Piece, Waiting
from server.grpcio_transport.pace import Pace
from server.loaded_version import LoadedVersion

_log = structlog.get_logger("tidegate.batcher")


@dataclass(frozen=True)
class Batch:
    """One run that succeeded. `started` is in seconds of `time.perf_counter`."""

    pieces: Sequence[Piece]
    inputs: Columns
    outputs: Columns
    rows: int
    started: float
    seconds: float


class ClosedError(Exception):
    """The version was unloaded between the caller's choice and its submission: choose again."""


class Batcher:
    """The queue and the thread of one loaded version. `observe` is told of every batch, after its callers have their answers."""

    def __init__(self, version: LoadedVersion, *, max_batch_rows: int, max_queue_delay: float, observe: Callable[[Batch], None]) -> None:
        self._engine = version.engine
        self._signature = version.signature
        self._max_rows = max_batch_rows if version.batchable else 1
        self._max_delay = max_queue_delay if version.batchable else 0.0
        self._observe = observe
        self._queue = FairQueue(self._max_rows)
        self._pace = Pace()
        self._soonest = math.inf
        self._running = 0
        self._enough = 1
        self._waits = False
        self._closed = False
        self._stopped = False
        self._changed = threading.Condition(threading.Lock())
        self._thread = threading.Thread(target=self._run, name=f"batcher-{version.model}-{version.number}", daemon=True)
        self._thread.start()

    @property
    def queue_rows(self) -> int:
        """Rows waiting now."""
        return self._queue.rows

    @property
    def busy(self) -> bool:
        """Whether a request would have to wait."""
        return self._running > 0 or self._queue.rows > 0

    def submit(self, waiting: Waiting) -> None:
        """Queue a request; its `done` is called with what came of it.

        Raises:
            ClosedError: if the version takes no more requests.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            self._queue.push(waiting)
            sooner = waiting.deadline < self._soonest
            if sooner:
                self._soonest = waiting.deadline
            # Not for every request: to be woken costs a thread more than a small request does.
            if self._waits and (sooner or self._queue.rows >= self._enough):
                self._changed.notify()

    def drop(self, waiting: Waiting) -> bool:
        """Give a request up, because its caller is gone; False if it is answered already, or about to be. Its `done` is not called."""
        with self._changed:
            if waiting.over or waiting.taken == waiting.rows:
                return False
            self._queue.drop(waiting)
            return True

    def expect(self, level: int, caller: str, rows: int) -> float:
        """Seconds until such a request would be answered, if nothing that is served before it comes after it."""
        with self._changed:
            ahead = self._queue.ahead(level, caller, rows)
        return self._pace.expect(self._running + ahead + rows, self._max_rows)

    def close(self) -> None:
        """Take no more requests; those queued are still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def stop(self) -> None:
        """Run nothing more, not even what is queued."""
        with self._changed:
            self._closed = self._stopped = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, at most `seconds`."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while pieces := self._take():
            live = [piece for piece in pieces if not self._expired(piece.waiting)]
            if live:
                self._try(live)

    def _take(self) -> list[Piece]:
        """The next batch; empty at the end."""
        with self._changed:
            self._running = 0
            while self._stopped or not (pieces := self._gather()):
                if self._closed:
                    return []
                self._wait(None, 1)
            self._running = sum(piece.rows for piece in pieces)
            return pieces

    def _gather(self) -> list[Piece]:
        if self._max_delay and self._queue.rows and not self._closed:
            end = time.perf_counter() + self._max_delay
            while self._queue.rows < self._max_rows and not self._closed and (left := self._patience(end)) > 0:
                self._wait(left, self._max_rows)
        pieces = self._queue.take()
        if not self._queue.rows:
            self._soonest = math.inf
        return pieces

    def _patience(self, end: float) -> float:
        """Seconds to wait for more rows: until `end`, or until the soonest deadline leaves just twice what a run is thought to take."""
        last = self._soonest - 2 * self._pace.expect(self._queue.rows, self._max_rows)
        return min(end, last) - time.perf_counter()

    def _wait(self, seconds: float | None, enough: int) -> None:
        """Until that many rows wait, a deadline is sooner than those known, or `seconds` have passed."""
        self._waits, self._enough = True, enough
        self._changed.wait(seconds)
        self._waits = False

    def _expired(self, waiting: Waiting) -> bool:
        if waiting.over:
            return True
        if time.perf_counter() < waiting.deadline:
            return False
        self._finish(waiting, DeadlineExceededError("the deadline passed while the request waited"))
        return True

    def _try(self, pieces: Sequence[Piece]) -> None:
        try:
            self._answer(pieces)
        except Exception:  # noqa: BLE001 -- a defect, or no memory: these callers are told, and the thread is there for the next
            for piece in pieces:
                self._finish(piece.waiting, ModelFailedError("the daemon failed on this batch; its log says how"))
            _log.exception("a batch could not be run")

    def _answer(self, pieces: Sequence[Piece]) -> None:
        try:
            batch = self._compute(pieces)
        except ModelFailedError as error:
            if len(pieces) == 1:
                self._finish(pieces[0].waiting, error)
                return
            middle = len(pieces) // 2
            self._answer(pieces[:middle])
            self._answer(pieces[middle:])
            return
        self._deliver(batch)
        try:
            self._observe(batch)
        except Exception:  # noqa: BLE001 -- the callers have their answers; what counts them must not end the thread
            _log.exception("a batch could not be counted")
        self._pace.add(batch.rows, time.perf_counter() - batch.started)

    def _compute(self, pieces: Sequence[Piece]) -> Batch:
        started = time.perf_counter()
        inputs = _inputs(pieces)
        outputs = encoded(self._engine.run(decoded(inputs, self._signature), pieces[0].waiting.outputs))
        rows = sum(piece.rows for piece in pieces)
        whole = len(pieces) == 1 and pieces[0].rows == pieces[0].waiting.rows
        if not whole and any(not tensor.ndim or len(tensor) != rows for tensor in outputs.values()):
            raise ModelFailedError("the model gave another number of rows than it got")
        return Batch(pieces, inputs, outputs, rows, started, time.perf_counter() - started)

    def _deliver(self, batch: Batch) -> None:
        offset = 0
        alone = len(batch.pieces) == 1
        for piece in batch.pieces:
            waiting = piece.waiting
            waiting.queue_seconds = waiting.queue_seconds or batch.started - waiting.queued
            waiting.compute_seconds += batch.seconds
            waiting.batch_rows = max(waiting.batch_rows, batch.rows)
            outputs = batch.outputs if alone else rows_of(batch.outputs, offset, offset + piece.rows)
            offset += piece.rows
            if piece.rows == waiting.rows:
                self._finish(waiting, outputs)
            else:
                waiting.parts.append(outputs)
                if piece.stop == waiting.rows:
                    self._finish(waiting, _whole(waiting.parts))

    def _finish(self, waiting: Waiting, outcome: Columns | RequestError) -> None:
        if waiting.over:  # given up, or failed in an earlier piece
            return
        if waiting.taken < waiting.rows and not self.drop(waiting):
            return
        waiting.over = True
        try:
            waiting.done(waiting, outcome)
        except Exception:  # noqa: BLE001 -- one caller's answer that cannot be sent must not cost its neighbours theirs
            _log.exception("an answer could not be sent")


def _inputs(pieces: Sequence[Piece]) -> Columns:
    return pieces[0].inputs if len(pieces) == 1 else joined([piece.inputs for piece in pieces])


def _whole(parts: Sequence[Columns]) -> Columns | RequestError:
    try:
        return joined(parts)
    except ValueError:
        return ModelFailedError("the model gave rows of another size in each part of this request: ask for fewer rows at once")
