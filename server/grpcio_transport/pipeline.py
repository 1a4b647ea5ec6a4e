"""ModelInfer, step by step: decode, route, admit, wait for a batch, encode, answer, count. Sockets and threads are not known here.

`begin` runs on the one thread that serves all calls and never waits; large requests are decoded on one of their own. What follows the batch
runs on the thread of the batcher.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import structlog

from registry.route import SHADOW as SHADOW_ARM
from server import grpc_errors
from server.access import Principal
from server.clock import steady_clock
from server.counts import VersionKey
from server.drift_counters import DriftCounter, DriftCounters
from server.engine import Columns
from server.errors import DeadlineExceededError, DrainingError, InputMismatchError, ModelFailedError, QueueFullError, RequestError
from server.grpcio_transport import router, tensors
from server.grpcio_transport.admission import Admission, RateLimits, check_deadline
from server.grpcio_transport.batcher import Batch, Batcher, ClosedError
from server.grpcio_transport.counters import RequestCounters
from server.grpcio_transport.direct import attempt
from server.grpcio_transport.drift import CountedBatches
from server.grpcio_transport.exchange import Exchange, Head
from server.grpcio_transport.fair_queue import HIGH, LOW, NORMAL, SHADOW, Waiting
from server.grpcio_transport.router import Choice
from server.grpcio_transport.tensors import Form, InferRequest
from server.guard import Guard
from server.loaded_version import LoadedVersion
from server.model_config import DEFAULT_PRIORITY, PRIORITY_LEVELS
from server.observed import LoggedBatch, LoggedRequest, Observers, TracedCall
from server.routing import RoutingTable
from server.service import INFERENCE
from server.settings import Settings

MODEL_INFER = f"/{INFERENCE}/ModelInfer"
"""Whose rule every inference goes by, in a stream too: a token that expires ends it."""
LARGE_BYTES = 1 << 18
"""A request of more is decoded on a thread of its own: that takes long enough to make all others wait."""
_DRAINING = "the daemon is shutting down"
_EXPIRED = "the deadline had passed when the request came"
_LEVELS = dict(zip(range(1, PRIORITY_LEVELS + 1), (HIGH, NORMAL, LOW), strict=True))
"""What a caller may ask for in `priority`; 0 and any other number are the default, as in Triton."""
_DEFAULT_LEVEL = _LEVELS[DEFAULT_PRIORITY]
_FOREVER = 86_400.0
"""grpcio says centuries where a caller set no deadline; a day is as good as none."""

_log = structlog.get_logger("tidegate.pipeline")


@dataclass(frozen=True)
class Lane:
    """One loaded version with all that its requests go through."""

    version: LoadedVersion
    form: Form
    batcher: Batcher


class _Inference(NamedTuple):
    """One request on its way: `begun` is when it came, in seconds of `time.perf_counter`."""

    request: InferRequest
    choice: Choice
    lane: Lane
    exchange: Exchange
    principal: Principal
    begun: float


@dataclass(frozen=True)
class _Installed:
    """A routing table and a lane for every version in it: replaced as one."""

    table: RoutingTable = field(default_factory=RoutingTable)
    lanes: Mapping[VersionKey, Lane] = field(default_factory=lambda: MappingProxyType({}))


class Pipeline:
    """All requests in flight."""

    def __init__(self, settings: Settings, counters: RequestCounters, guard: Guard, observers: Observers) -> None:
        self._settings = settings
        self._counters = counters
        self._guard = guard
        self._observers = observers
        self._installed = _Installed()
        self._rates = RateLimits()
        self._closed = False
        self._decoder = ThreadPoolExecutor(1, "decode")
        self.admission = Admission(settings.max_queue_rows, settings.max_queue_bytes)
        self.drift = DriftCounters(steady_clock(), CountedBatches)

    @property
    def lanes(self) -> Mapping[VersionKey, Lane]:
        """Of every loaded version."""
        return self._installed.lanes

    def install(self, table: RoutingTable) -> None:
        """Route by `table` from now on; requests already admitted finish on the version they were given."""
        before = self._installed.lanes
        loaded = {version.key: version for version in table.loaded}
        lanes = {key: before[key] if key in before else self._lane(version) for key, version in loaded.items()}
        self._installed = _Installed(table, MappingProxyType(lanes))
        for key in before.keys() - lanes.keys():
            before[key].batcher.close()
            self.drift.end(key)

    def close(self) -> None:
        """Refuse whatever comes from now on; what was admitted is answered."""
        self._closed = True

    def join(self, seconds: float) -> None:
        """End the batchers: nobody waits for what is queued now."""
        for lane in self.lanes.values():
            lane.batcher.stop()
        end = time.monotonic() + seconds
        for lane in self.lanes.values():
            lane.batcher.join(max(0.0, end - time.monotonic()))
        self._decoder.shutdown(wait=False)

    def admit(self, head: Head) -> None:
        """Refuse a call before its message is read, where its caller has given up already: under overload those are many.

        Raises:
            DeadlineExceededError: if its deadline has passed.
        """
        if head.deadline <= time.time():
            error = DeadlineExceededError(_EXPIRED)
            self._refused(head, None, time.perf_counter(), error)
            raise error

    def begin(self, data: bytes, exchange: Exchange) -> None:
        """Take a ModelInferRequest as far as the queue; its answer, or why there is none, goes to `exchange`."""
        begun = time.perf_counter()
        try:
            if self._closed:
                raise DrainingError(_DRAINING)
            principal = self._guard.principal(MODEL_INFER, exchange.head)
            if len(data) > LARGE_BYTES:
                self.admission.admit(_caller(principal, exchange), NORMAL, 0, len(data))
        except RequestError as error:
            self._refuse(exchange, None, begun, error)
            return
        read = partial(self._read, principal, begun)
        if len(data) > LARGE_BYTES:
            self._decoder.submit(attempt, read, data, exchange)
        else:
            read(data, exchange)

    def _read(self, principal: Principal, begun: float, data: bytes, exchange: Exchange) -> None:
        choice: Choice | None = None
        try:
            request = self._decode(data, principal, exchange)
            self._guard.check(principal, MODEL_INFER, request.model, exchange.head)
            while True:
                installed = self._installed
                choice = router.pick(installed.table, request.model, request.label, request.parameters.routing_key or request.id)
                lane = installed.lanes[choice.version.key]
                try:
                    self._submit(_Inference(request, choice, lane, exchange, principal, begun))
                except ClosedError:  # unloaded in between: the table has the version that took its place, unless all ends
                    if self._closed:
                        raise DrainingError(_DRAINING) from None
                    continue
                return
        except RequestError as error:
            self._refuse(exchange, choice, begun, error)

    def _decode(self, data: bytes, principal: Principal, exchange: Exchange) -> InferRequest:
        try:
            return tensors.decode(data)
        finally:
            if len(data) > LARGE_BYTES:
                self.admission.release(_caller(principal, exchange), NORMAL, 0, len(data))

    def _submit(self, inference: _Inference) -> None:
        request, lane = inference.request, inference.lane
        rows = lane.form.rows(request)
        level = _LEVELS.get(request.parameters.priority, _DEFAULT_LEVEL)
        deadline = inference.begun + _remaining(inference.exchange, request)
        caller = _caller(inference.principal, inference.exchange)
        self._limit(inference.principal, caller, rows)
        self._check_deadline(lane.batcher, level, caller, rows, deadline - inference.begun)
        self.admission.admit(caller, level, rows, request.size)
        waiting = Waiting(
            request.inputs,
            rows,
            lane.form.shape(request),
            lane.form.outputs(request),
            caller,
            level,
            deadline,
            time.perf_counter(),
            partial(self._finish, inference),
            request.id,
            inference.choice.arm,
            inference.request.size,
        )
        try:
            lane.batcher.submit(waiting)
        except ClosedError:
            self.admission.release(caller, level, rows, request.size)
            raise
        inference.exchange.on_end(partial(self._give_up, inference, waiting))

    def _limit(self, principal: Principal, caller: str, rows: int) -> None:
        if rate := principal.rate or self._settings.rate_limit:
            burst = principal.burst if principal.rate else self._settings.rate_burst
            self._rates.take(caller, rate, burst or rate, rows)

    def _check_deadline(self, batcher: Batcher, level: int, caller: str, rows: int, remaining: float) -> None:
        # An idle engine is always given the request: what it was thought to take may be long out of date.
        if remaining < _FOREVER and batcher.busy:
            check_deadline(batcher.expect(level, caller, rows), remaining)

    def _refuse(self, exchange: Exchange, choice: Choice | None, begun: float, error: RequestError, waiting: Waiting | None = None) -> None:
        exchange.refuse(grpc_errors.status(error))
        self._refused(exchange.head, choice, begun, error, waiting)

    def _refused(self, head: Head, choice: Choice | None, begun: float, error: RequestError, waiting: Waiting | None = None) -> None:
        self._counters.rejected(choice.version.model if choice else "", error.reason)
        self._ended(head, choice, begun, grpc_errors.STATUS[type(error)].name, waiting)

    def _ended(self, head: Head, choice: Choice | None, begun: float, code: str, waiting: Waiting | None) -> None:
        """Count a request that is over, and tell who traces; `waiting` is what it was in the queue, if it came so far."""
        ended = time.perf_counter()
        if choice is None:
            self._counters.unrouted(code)
        else:
            self._counters.answered(choice.version.key, choice.arm, code, ended - begun)
        if self._observers.call is not None:
            self._observers.call(head.metadata, _traced(choice, code, begun, ended, waiting))

    def _copy(self, inference: _Inference, shadow: LoadedVersion) -> None:
        """Let a shadow compute what a caller has the answer to already; given up wherever anything would have to wait for it."""
        lane = self.lanes.get(shadow.key)
        if lane is None:
            return
        request, begun = inference.request, time.perf_counter()
        try:
            rows = lane.form.rows(request)
            self.admission.admit(SHADOW_ARM, SHADOW, rows, request.size)
        except (InputMismatchError, QueueFullError) as error:
            self._shadowed(lane, begun, error)
            return

        def done(_: Waiting, outcome: Columns | RequestError) -> None:
            self.admission.release(SHADOW_ARM, SHADOW, rows, request.size)
            self._shadowed(lane, begun, outcome)

        shape, outputs = lane.form.shape(request), lane.form.outputs(request)
        waiting = Waiting(
            request.inputs, rows, shape, outputs, SHADOW_ARM, SHADOW, math.inf, begun, done, request.id, SHADOW_ARM, inference.request.size
        )
        try:
            lane.batcher.submit(waiting)
        except ClosedError:
            self.admission.release(SHADOW_ARM, SHADOW, rows, request.size)

    def _shadowed(self, lane: Lane, begun: float, outcome: Columns | RequestError) -> None:
        code = grpc_errors.STATUS[type(outcome)].name if isinstance(outcome, RequestError) else "OK"
        self._counters.answered(lane.version.key, SHADOW_ARM, code, time.perf_counter() - begun)

    def _lane(self, version: LoadedVersion) -> Lane:
        drift = self.drift.begin(version)
        batcher = Batcher(
            version,
            max_batch_rows=self._settings.max_batch_rows,
            max_queue_delay=self._settings.max_queue_delay,
            observe=self._observer(version, drift),
        )
        always = drift.outputs if drift else ()
        form = Form(version.model, version.number, version.signature, batchable=version.batchable, always=always)
        return Lane(version, form, batcher)

    def _observer(self, version: LoadedVersion, drift: DriftCounter[CountedBatches] | None) -> Callable[[Batch], None]:
        key, log = version.key, self._observers.batch

        def observe(batch: Batch) -> None:
            self._counters.ran(key, batch)
            if drift is not None:
                drift.rows.observe(batch)
            if log is not None:
                log(_logged(version, batch))

        return observe

    def _finish(self, inference: _Inference, waiting: Waiting, outcome: Columns | RequestError) -> None:
        """Answer a request that was admitted, and count it."""
        request, choice, lane, exchange, _, begun = inference
        self.admission.release(waiting.caller, waiting.level, waiting.rows, request.size)
        if isinstance(outcome, RequestError):
            self._refuse(exchange, choice, begun, outcome, waiting)
            return
        try:
            answer = lane.form.encode(request, outcome, _timing(request, waiting))
        except Exception:  # noqa: BLE001 -- whatever a model gives that no message can carry, its caller is told
            self._refuse(exchange, choice, begun, ModelFailedError("what the model gave does not fit into an answer"), waiting)
            _log.exception("an answer could not be written")
            return
        exchange.answer(answer)
        self._ended(exchange.head, choice, begun, "OK", waiting)
        for shadow in choice.shadows:
            self._copy(inference, shadow)

    def _give_up(self, inference: _Inference, waiting: Waiting) -> None:
        """The caller of an admitted request went away, or its deadline passed."""
        if waiting.over or not inference.lane.batcher.drop(waiting):
            return
        self.admission.release(waiting.caller, waiting.level, waiting.rows, inference.request.size)
        code = "DEADLINE_EXCEEDED" if time.perf_counter() >= waiting.deadline else "CANCELLED"
        self._ended(inference.exchange.head, inference.choice, inference.begun, code, waiting)


def _caller(principal: Principal, exchange: Exchange) -> str:
    """Whom a request counts for: its principal, or the connection of one without a name."""
    return principal.name or exchange.head.peer


def _logged(version: LoadedVersion, batch: Batch) -> LoggedBatch:
    epoch = time.time() - time.perf_counter()
    requests = [
        LoggedRequest(piece.waiting.id, piece.waiting.arm, epoch + piece.waiting.queued, piece.rows, piece.start) for piece in batch.pieces
    ]
    return LoggedBatch(version.model, version.number, version.signature, requests, batch.rows, batch.inputs, batch.outputs)


def _traced(choice: Choice | None, code: str, begun: float, ended: float, waiting: Waiting | None) -> TracedCall:
    model, version, arm = (*choice.version.key, choice.arm) if choice else ("", 0, "")
    if waiting is None or not waiting.batch_rows:
        return TracedCall(model, version, arm, code, waiting.rows if waiting else 0, begun, ended)
    computing = waiting.queued + waiting.queue_seconds
    computed = computing + waiting.compute_seconds
    return TracedCall(model, version, arm, code, waiting.rows, begun, ended, waiting.queued, computing, computed, waiting.batch_rows)


def _timing(request: InferRequest, waiting: Waiting) -> str:
    """The value of the parameter `tidegate_timing`; empty if it was not asked for."""
    if not request.parameters.timing:
        return ""
    timing = {"batch_rows": waiting.batch_rows, "compute_seconds": waiting.compute_seconds, "queue_seconds": waiting.queue_seconds}
    return json.dumps(timing, sort_keys=True)


def _remaining(exchange: Exchange, request: InferRequest) -> float:
    """Seconds until the caller's deadline, or until its timeout in the queue, whichever is sooner."""
    remaining = exchange.head.deadline - time.time()
    if remaining <= 0:
        raise DeadlineExceededError(_EXPIRED)
    if remaining > _FOREVER:
        remaining = math.inf
    return min(remaining, request.parameters.timeout) if request.parameters.timeout else remaining
