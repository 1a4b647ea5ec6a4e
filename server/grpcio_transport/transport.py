"""The `Transport` of grpcio: listens, and takes every ModelInfer through the steps of the pipeline on a thread of a pool."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from server.counts import Counters, VersionKey
from server.engine import Tensor
from server.errors import DeadlineExceededError, DrainingError, RequestError, SettingsError
from server.grpcio_transport import grpc_errors, router, tensors
from server.grpcio_transport.admission import Admission
from server.grpcio_transport.batcher import Batch, Batcher, ClosedError, Waiting
from server.grpcio_transport.counters import RequestCounters
from server.grpcio_transport.drift import DriftCounter
from server.grpcio_transport.router import Choice
from server.grpcio_transport.tensors import InferRequest
from server.loaded_version import LoadedVersion
from server.routing import RoutingTable
from server.service import INFERENCE, MONITORING, Call
from server.settings import Settings
from tidegate_protos.pool import POOL

_log = structlog.get_logger("tidegate.transport")

FOLD_SECONDS = 0.25
STOP_SECONDS = 30.0
MAX_DEADLINE_SECONDS = 86_400.0


class GrpcioTransport:
    """See `server.transport.Transport`."""

    def __init__(self, settings: Settings, calls: Mapping[str, Call]) -> None:
        self._settings = settings
        self._table = RoutingTable()
        self._batchers: dict[VersionKey, Batcher] = {}
        self._drift: dict[VersionKey, DriftCounter] = {}
        self._admission = Admission(settings.max_queue_rows)
        self._counters = RequestCounters()
        self._draining = False
        self._stopped = threading.Event()
        self._health = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=ThreadPoolExecutor(1))
        self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server = grpc.server(ThreadPoolExecutor(settings.max_in_flight, "grpc"), options=_options(settings))
        self._server.add_generic_rpc_handlers(_handlers({**calls, f"/{INFERENCE}/ModelInfer": self._model_infer}))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _describe_health()
        services = (INFERENCE, MONITORING, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server, pool=POOL)

    def start(self) -> str:
        """See `Transport.start`."""
        host, _, _ = self._settings.grpc_address.rpartition(":")
        try:
            port = self._server.add_insecure_port(self._settings.grpc_address)
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen on {self._settings.grpc_address}: is it taken? Choose another with --grpc-address"
            ) from error
        self._server.start()
        threading.Thread(target=self._fold, name="drift", daemon=True).start()
        return f"{host}:{port}"

    def install(self, table: RoutingTable) -> None:
        """See `Transport.install`."""
        loaded = {(version.model, version.number): version for version in table.loaded}
        for key, version in loaded.items():
            if key not in self._batchers:
                self._batchers[key] = self._make_batcher(version)
        before, self._table = self._table, table
        for key in self._batchers.keys() - loaded.keys():
            self._batchers.pop(key).close()
        self._set_health(before)

    def drain(self, seconds: float) -> None:
        """See `Transport.drain`."""
        self._health.enter_graceful_shutdown()
        time.sleep(seconds)
        self._draining = True
        self._server.stop(STOP_SECONDS).wait()
        for batcher in self._batchers.values():
            batcher.close()
        for batcher in self._batchers.values():
            batcher.join(STOP_SECONDS)
        self._stopped.set()

    def counters(self) -> Counters:
        """See `Transport.counters`."""
        queued = {key: batcher.queue_rows for key, batcher in list(self._batchers.items())}
        return self._counters.snapshot(queued, {key: counter.counts() for key, counter in list(self._drift.items())})

    def _model_infer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        start = time.perf_counter()
        choice: Choice | None = None
        try:
            if self._draining:
                raise DrainingError("the daemon is shutting down")
            request = tensors.decode(data)
            while True:
                choice = router.pick(self._table, request.model, request.label)
                try:
                    outputs = self._compute(choice, request, context)
                    break
                except ClosedError:  # unloaded in between: the table has the version that took its place
                    continue
            answer = tensors.encode(request, choice.version.number, outputs, choice.version.signature)
        except RequestError as error:
            self._refused(choice, error, time.perf_counter() - start)
            context.abort_with_status(grpc_errors.status(error))
        self._counters.answered((choice.version.model, choice.version.number), choice.arm, "OK", time.perf_counter() - start)
        return answer

    def _compute(self, choice: Choice, request: InferRequest, context: grpc.ServicerContext) -> dict[str, Tensor]:
        version = choice.version
        batcher = self._batchers.get((version.model, version.number))
        if batcher is None:
            raise ClosedError
        rows = tensors.check(request, version.signature, batchable=batcher.batchable)
        remaining = _remaining(context)
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        waiting = Waiting(request.inputs, rows, deadline, counted=choice.arm == router.STABLE)
        self._admission.admit(rows)
        try:
            batcher.submit(waiting)
            # Told of a caller that went away, the batcher drops what it has not yet begun.
            context.add_callback(lambda: _drop(waiting))
            return waiting.answer.result(timeout=remaining)
        except (CancelledError, FutureTimeoutError) as error:
            waiting.answer.cancel()
            raise DeadlineExceededError("the deadline passed, or the caller went away, before the answer was computed") from error
        finally:
            self._admission.release(rows)

    def _refused(self, choice: Choice | None, error: RequestError, seconds: float) -> None:
        code = grpc_errors.STATUS[type(error)].name
        if choice is None:
            self._counters.unrouted(code)
        else:
            self._counters.answered((choice.version.model, choice.version.number), choice.arm, code, seconds)
        self._counters.rejected(choice.version.model if choice else "", error.reason)

    def _make_batcher(self, version: LoadedVersion) -> Batcher:
        key = (version.model, version.number)
        if version.profile is not None and key not in self._drift:
            self._drift[key] = DriftCounter(version.profile, version.signature)
        drift = self._drift.get(key)

        def observe(batch: Batch) -> None:
            self._counters.ran(key, batch)
            if drift is not None:
                _observe(drift, batch)

        return Batcher(
            version, max_batch_rows=self._settings.max_batch_rows, max_queue_delay=self._settings.max_queue_delay, observe=observe
        )

    def _set_health(self, before: RoutingTable) -> None:
        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.set("", serving if self._table.complete else not_serving)
        for name in before.models.keys() | self._table.models.keys():
            model = self._table.models.get(name)
            self._health.set(name, serving if model is not None and model.ready else not_serving)

    def _fold(self) -> None:
        while not self._stopped.wait(FOLD_SECONDS):
            for counter in list(self._drift.values()):
                try:
                    counter.fold()
                except Exception:  # noqa: BLE001 -- one version's counts must not end the counting of all
                    _log.exception("drift could not be counted")


def _remaining(context: grpc.ServicerContext) -> float | None:
    # grpcio says centuries, not None, where a caller set no deadline; no lock waits that long.
    remaining = context.time_remaining()
    return None if remaining is None or remaining > MAX_DEADLINE_SECONDS else remaining


def _drop(waiting: Waiting) -> None:
    waiting.answer.cancel()


def _observe(drift: DriftCounter, batch: Batch) -> None:
    if all(request.counted for request in batch.requests):
        drift.observe(batch.inputs, batch.outputs, batch.rows)
        return
    offset = 0
    for request in batch.requests:
        if request.counted:
            rows = slice(offset, offset + request.rows)
            drift.observe(request.inputs, {name: tensor[rows] for name, tensor in batch.outputs.items()}, request.rows)
        offset += request.rows


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Off for one daemon: a second would take half of the first one's connections and nobody would know.
        ("grpc.so_reuseport", int(settings.replicas > 1)),
        *([("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000))] if settings.max_connection_age else []),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
    ]


def _handlers(calls: Mapping[str, Callable[..., bytes]]) -> "list[grpc.GenericRpcHandler[bytes, bytes]]":
    methods: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for path, call in calls.items():
        _, service, method = path.split("/")
        behavior = call if method == "ModelInfer" else _with_status(call)
        methods.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(behavior)
    return [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in methods.items()]


def _with_status(call: Call) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def behavior(data: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return call(data)
        except RequestError as error:
            context.abort_with_status(grpc_errors.status(error))
            raise  # abort_with_status has raised already

    return behavior


def _describe_health() -> None:
    # Reflection answers from our private pool, which has to know the services of others that we serve.
    POOL.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
    POOL.AddSerializedFile(reflection_pb2.DESCRIPTOR.serialized_pb)
