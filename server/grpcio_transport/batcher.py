"""Gathers the requests of one version into batches and runs them, on one thread of its own.

It never waits while the engine is idle: what came while the engine ran is the next batch. A cancelled or expired request is dropped before
the run; if a batch fails, its requests are run one by one, so that only the one at fault fails.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import structlog

from server.engine import Columns, Tensor
from server.errors import DeadlineExceededError, ModelFailedError
from server.loaded_version import LoadedVersion


@dataclass(frozen=True)
class Waiting:
    """One request in the queue.

    `deadline` is in seconds of `time.monotonic`, infinite if there is none; `counted` says whether its rows are observed for drift.
    """

    inputs: Columns
    rows: int
    deadline: float
    counted: bool
    queued: float = field(default_factory=time.perf_counter)
    answer: "Future[dict[str, Tensor]]" = field(default_factory=Future)

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """What must be alike for two requests to share a batch."""
        return tuple(tensor.shape[1:] for tensor in self.inputs.values())


@dataclass(frozen=True)
class Batch:
    """One run that succeeded, told to the observer after its callers have their answers."""

    requests: Sequence[Waiting]
    inputs: Columns
    outputs: Columns
    started: float
    seconds: float

    @property
    def rows(self) -> int:
        """Rows of all its requests."""
        return sum(request.rows for request in self.requests)


_log = structlog.get_logger("tidegate.batcher")


class ClosedError(Exception):
    """The version was unloaded between the caller's choice and its submission: choose again."""


class Batcher:
    """The queue and the thread of one loaded version."""

    def __init__(self, version: LoadedVersion, *, max_batch_rows: int, max_queue_delay: float, observe: Callable[[Batch], None]) -> None:
        self._engine = version.engine
        self._max_rows = max_batch_rows
        self._max_delay = max_queue_delay
        self._observe = observe
        self._batchable = version.batchable
        self._outputs = tuple(spec.name for spec in version.signature.outputs)
        self._queue: deque[Waiting] = deque()
        self._rows = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"batcher-{version.model}-{version.number}", daemon=True)
        self._thread.start()

    @property
    def batchable(self) -> bool:
        """Whether rows of several requests share runs."""
        return self._batchable

    @property
    def queue_rows(self) -> int:
        """Rows waiting now."""
        return self._rows

    def submit(self, request: Waiting) -> None:
        """Queue a request; its answer comes by its future.

        Raises:
            ClosedError: if the version takes no more requests.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            self._queue.append(request)
            self._rows += request.rows
            self._changed.notify()

    def close(self) -> None:
        """Take no more requests; those queued are still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait until all that was queued is answered, at most `seconds`."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while requests := self._take():
            live = [request for request in requests if _claim(request)]
            if live:
                self._answer(live)

    def _take(self) -> list[Waiting]:
        """The next requests that share a batch; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._max_delay and self._queue:
                self._changed.wait_for(lambda: self._closed or self._rows >= self._max_rows, self._max_delay)
            requests: list[Waiting] = []
            rows = 0
            while self._queue and (not requests or self._fits(requests[0], self._queue[0], rows)):
                request = self._queue.popleft()
                requests.append(request)
                rows += request.rows
            self._rows -= rows
            return requests

    def _fits(self, first: Waiting, request: Waiting, rows: int) -> bool:
        return self._batchable and rows + request.rows <= self._max_rows and request.shape == first.shape

    def _answer(self, requests: list[Waiting]) -> None:
        try:
            self._compute(requests)
        except ModelFailedError as error:
            if len(requests) == 1:
                requests[0].answer.set_exception(error)
                return
            for request in requests:
                self._answer([request])
        except Exception as error:  # noqa: BLE001 -- whatever it is, a caller waits for an answer and the thread must live on
            for request in requests:
                request.answer.set_exception(ModelFailedError(f"the run failed: {error!r}"))

    def _compute(self, requests: list[Waiting]) -> None:
        started = time.perf_counter()
        inputs = _joined(requests)
        outputs = self._engine.run(inputs, self._outputs)
        seconds = time.perf_counter() - started
        batch = Batch(requests, inputs, outputs, started, seconds)
        if self._batchable and any(not tensor.ndim or len(tensor) != batch.rows for tensor in outputs.values()):
            # Its signature looked like rows in, rows out, and it is not: from now on one request is one run.
            self._batchable = False
            if len(requests) > 1:
                raise ModelFailedError("the model does not keep rows apart")
        offset = 0
        for request in requests:
            request.answer.set_result(_slice(outputs, offset, request.rows) if len(requests) > 1 else outputs)
            offset += request.rows
        try:
            self._observe(batch)
        except Exception:  # noqa: BLE001 -- the callers have their answers; what counts them must not end the thread
            _log.exception("a batch could not be counted")


def _claim(request: Waiting) -> bool:
    """Whether to run the request: neither cancelled nor expired. From here on it cannot be cancelled."""
    if not request.answer.set_running_or_notify_cancel():
        return False
    if time.monotonic() >= request.deadline:
        request.answer.set_exception(DeadlineExceededError("the deadline passed while the request waited"))
        return False
    return True


def _joined(requests: list[Waiting]) -> Columns:
    if len(requests) == 1:
        return requests[0].inputs
    return {name: np.concatenate([request.inputs[name] for request in requests]) for name in requests[0].inputs}


def _slice(outputs: Columns, offset: int, rows: int) -> dict[str, Tensor]:
    return {name: tensor[offset : offset + rows] for name, tensor in outputs.items()}
