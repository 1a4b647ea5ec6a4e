"""Where the daemon is wired: every object is built here, once. Parsing flags and printing is `__main__`'s."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import structlog

from registry.errors import RegistryError
from registry.location import Keys, open_registry
from registry.names import PRODUCTION
from registry.watch import watch
from server import handover
from server.drift_metrics import DriftExposition
from server.errors import NotServableError, SettingsError
from server.feedback_calls import Feedback
from server.follower import Follower
from server.lifecycle import Lifecycle
from server.loaded_version import EngineFactory, LoadedVersion, load_folder
from server.loader import Loader
from server.metrics import FeedbackCollector, PredictionLogCollector, ServerCollector
from server.metrics_server import MetricsServer
from server.model_config import Batching
from server.observed import Observers
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from server.security import Security
from server.service import Service
from server.settings import Settings
from server.transport import Transport
from server.transports import TRANSPORTS, chosen
from server.unix_sockets import UnixPlace, place_for

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from server.feedback_log import FeedbackLog
    from server.prediction_log import PredictionLog
    from server.tracing import Tracer

Install: TypeAlias = Callable[[RoutingTable], None]

_log = structlog.get_logger("tidegate.app")


class Source(Protocol):
    """Where what is served comes from; it installs tables."""

    def start(self) -> None:
        """Begin to load."""
        ...

    def stop(self) -> None:
        """Load no more."""
        ...

    def lifecycle(self) -> Lifecycle | None:
        """How a registry is followed; None where there is none."""
        ...


class Daemon:
    """A daemon with everything built: `load` and `listen` make it serve, in either order, and `metrics.start` makes it say so."""

    def __init__(
        self,
        transport: Transport,
        transport_name: str,
        source: Source,
        security: Security,
        metrics: MetricsServer,
        recorders: "Recorders",
        place: UnixPlace | None,
    ) -> None:
        self.metrics = metrics
        self._place = place
        self._recorders = recorders
        self._transport = transport
        self._transport_name = transport_name
        self._security = security
        self._source = source
        self._address = ""

    def load(self) -> None:
        """Begin to load what is served; of a registry, on a thread of its own."""
        self._source.start()

    def listen(self) -> str:
        """Answer callers from now on; returns the address really bound.

        Raises:
            SettingsError: if the address is taken.
        """
        self._address = self._transport.start()
        self._security.start()
        address = self._address if self._place is None else self._place.publish()
        _log.info("listening", address=address, transport=self._transport_name)
        return address

    def leave(self, seconds: float, interrupted: Callable[[float], bool]) -> None:
        """Leave the port to the other replicas: wait, at most `seconds`, until every caller has connected elsewhere.

        `interrupted` waits for the seconds it is given, or returns True earlier to end the wait.
        """
        port = int(self._address.rpartition(":")[2])
        handover.refuse_new(port)
        if not handover.wait_until_left(port, seconds, interrupted):
            _log.warning("connections are still open: requests on them may fail")

    def stop(self, drain_delay: float) -> None:
        """Drain, then end everything."""
        self._transport.drain(drain_delay)
        if self._place is not None:
            self._place.remove()
        self._security.stop()
        self._recorders.stop()
        self._source.stop()
        self.metrics.stop()


def build(settings: Settings, metrics: socket.socket, tell: Callable[[bool], None] = lambda _: None) -> Daemon:
    """Build the daemon; its metrics are answered on a listener that is open already.

    `tell` is called, on any thread, whenever what can be loaded is, with whether every model in production is among it.

    Raises:
        SettingsError: if the registry or the folder is not usable, or the transport is not installed.
    """
    name = chosen(settings.transport)
    make_transport = TRANSPORTS[name]()
    recorders = _recorders(settings)
    security = Security(settings)
    batching = Batching(settings.max_batch_rows, settings.max_queue_delay)
    service = Service(lambda: transport.counters(), batching)  # noqa: PLW0108 -- the transport does not exist yet
    feedback = Feedback(_feedback_log(settings))
    calls = {**service.calls(), **feedback.calls()}
    place = place_for(settings.grpc_address)
    bound = settings.grpc_address if place is None else place.bound
    transport = make_transport(settings.model_copy(update={"grpc_address": bound}), calls, security, recorders.observers)
    collector = ServerCollector(transport.counters, lambda: source.lifecycle())  # noqa: PLW0108 -- nor does the source

    def install(table: RoutingTable) -> None:
        transport.install(table)
        service.install(table)
        feedback.install(table)
        collector.install(table)
        if table.complete:
            tell(all(model.ready for model in table.models.values() if PRODUCTION in model.stages))

    make_engine: EngineFactory = partial(OnnxEngine, threads=settings.engine_threads)
    source = _source(settings, make_engine, install)
    collectors: list[Collector] = [collector, FeedbackCollector(feedback.counts)]
    if recorders.predictions is not None:
        collectors.append(PredictionLogCollector(recorders.predictions.counts))
    drift = DriftExposition(transport.counters, settings.drift_features)
    return Daemon(transport, name, source, security, MetricsServer(collectors, [drift], metrics), recorders, place)


@dataclass(frozen=True)
class Recorders:
    """What keeps answers beside the counters, where the settings ask for it."""

    predictions: "PredictionLog | None"
    tracer: "Tracer | None"

    @property
    def observers(self) -> Observers:
        """How they are told."""
        call = self.tracer.record if self.tracer else None
        return Observers(self.predictions.offer, self.predictions.share, call) if self.predictions else Observers(call=call)

    def stop(self) -> None:
        """Write and send what is left."""
        for recorder in (self.predictions, self.tracer):
            if recorder is not None:
                recorder.stop()


def _recorders(settings: Settings) -> Recorders:
    # Imported only where they are asked for: pyarrow takes memory, and OpenTelemetry need not be installed.
    predictions = tracer = None
    if settings.tracing is not None:
        try:
            from server.tracing import open_tracer  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError("--tracing needs OpenTelemetry: pip install 'tidegate[server,tracing]'") from error
        tracer = open_tracer(settings.tracing, settings.tracing_share)
    if settings.prediction_log is not None:
        from server.prediction_log import open_prediction_log  # noqa: PLC0415

        predictions = open_prediction_log(settings.prediction_log, settings)
        predictions.start()
    return Recorders(predictions, tracer)


def _feedback_log(settings: Settings) -> "FeedbackLog | None":
    if settings.feedback_log is None:
        return None
    from server.feedback_log import open_feedback_log  # noqa: PLC0415 -- pyarrow again

    return open_feedback_log(settings.feedback_log)


@dataclass(frozen=True)
class _Folder:
    """The `Source` of one version that never changes."""

    version: LoadedVersion
    install: Install

    def start(self) -> None:
        served = ServedModel(
            MappingProxyType({self.version.number: self.version}),
            MappingProxyType({PRODUCTION: self.version.number}),
            (self.version.number,),
        )
        self.install(RoutingTable(MappingProxyType({self.version.model: served}), complete=True))

    def stop(self) -> None:
        """Nothing runs."""

    def lifecycle(self) -> None:
        """There is no registry."""


def _source(settings: Settings, make_engine: EngineFactory, install: Install) -> Source:
    if settings.model_dir is None:
        return _follower(settings, make_engine, install)
    return _folder(settings.model_dir, settings.model_name, make_engine, install)


def _follower(settings: Settings, make_engine: EngineFactory, install: Install) -> Follower:
    try:
        registry = open_registry(settings.registry, keys=Keys(trusted_keys=settings.trusted_keys))
        return Follower(registry, watch(settings.registry), Loader(registry, make_engine, settings.memory_budget, install))
    except RegistryError as error:
        raise SettingsError(str(error)) from error


def _folder(folder: Path, name: str | None, make_engine: EngineFactory, install: Install) -> _Folder:
    try:
        return _Folder(load_folder(folder, name, make_engine), install)
    except NotServableError as error:
        raise SettingsError(str(error)) from error
