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
from server.errors import NotServableError, SettingsError
from server.follower import Follower
from server.grpcio_transport.transport import GrpcioTransport
from server.loaded_version import EngineFactory, LoadedVersion, load_folder
from server.metrics import PredictionLogCollector, ServerCollector
from server.metrics_server import MetricsServer
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from server.service import Service
from server.settings import Settings
from server.transport import Transport

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

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


class Daemon:
    """A daemon with everything built: `load` and `listen` make it serve, in either order, and `metrics.start` makes it say so."""

    def __init__(self, transport: Transport, source: Source, metrics: MetricsServer, observers: "Observers") -> None:
        self.metrics = metrics
        self._observers = observers
        self._transport = transport
        self._source = source
        self._port = 0

    def load(self) -> None:
        """Begin to load what is served; of a registry, on a thread of its own."""
        self._source.start()

    def listen(self) -> str:
        """Answer callers from now on; returns the address really bound.

        Raises:
            SettingsError: if the address is taken.
        """
        address = self._transport.start()
        self._port = int(address.rpartition(":")[2])
        return address

    def leave(self, seconds: float, interrupted: Callable[[float], bool]) -> None:
        """Leave the port to the other replicas: wait, at most `seconds`, until every caller has connected elsewhere.

        `interrupted` waits for the seconds it is given, or returns True earlier to end the wait.
        """
        handover.refuse_new(self._port)
        if not handover.wait_until_left(self._port, seconds, interrupted):
            _log.warning("connections are still open: requests on them may fail")

    def stop(self, drain_delay: float) -> None:
        """Drain, then end everything."""
        self._transport.drain(drain_delay)
        self._source.stop()
        self._observers.stop()
        self.metrics.stop()


def build(settings: Settings, metrics: socket.socket, tell: Callable[[bool], None] = lambda _: None) -> Daemon:
    """Build the daemon; its metrics are answered on a listener that is open already.

    `tell` is called, on any thread, whenever what can be loaded is, with whether every model in production is among it.

    Raises:
        SettingsError: if the registry or the folder is not usable.
    """
    observers = _observers(settings)
    service = Service(lambda: transport.counters())  # noqa: PLW0108 -- the transport does not exist yet
    transport: Transport = GrpcioTransport(settings, service.calls())
    collector = ServerCollector(transport.counters)

    def install(table: RoutingTable) -> None:
        transport.install(table)
        service.install(table)
        collector.install(table)
        if table.complete:
            tell(all(model.ready for model in table.models.values() if PRODUCTION in model.stages))

    make_engine: EngineFactory = partial(OnnxEngine, threads=settings.engine_threads)
    source = _folder(settings.model_dir, make_engine, install) if settings.model_dir else _follower(settings, make_engine, install)
    collectors: list[Collector] = [collector]
    if observers.predictions is not None:
        collectors.append(PredictionLogCollector(observers.predictions.counts))
    return Daemon(transport, source, MetricsServer(collectors, metrics), observers)


@dataclass(frozen=True)
class Observers:
    """What is told of answers beside the counters, where the settings ask for it."""

    predictions: "PredictionLog | None"
    tracer: "Tracer | None"

    def stop(self) -> None:
        """Write and send what is left."""
        for observer in (self.predictions, self.tracer):
            if observer is not None:
                observer.stop()


def _observers(settings: Settings) -> Observers:
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
    return Observers(predictions, tracer)


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


def _follower(settings: Settings, make_engine: EngineFactory, install: Install) -> Follower:
    try:
        return Follower(
            open_registry(settings.registry, keys=Keys(trusted_keys=settings.trusted_keys)), watch(settings.registry), make_engine, install
        )
    except RegistryError as error:
        raise SettingsError(str(error)) from error


def _folder(folder: Path, make_engine: EngineFactory, install: Install) -> _Folder:
    try:
        return _Folder(load_folder(folder, make_engine), install)
    except NotServableError as error:
        raise SettingsError(str(error)) from error
