"""Where the daemon is wired: every object is built here, once. Parsing flags and printing is `__main__`'s."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias
from wsgiref.simple_server import WSGIServer

from registry.errors import RegistryError
from registry.location import Keys, open_registry
from registry.names import PRODUCTION
from registry.watch import watch
from server.errors import NotServableError, SettingsError
from server.follower import Follower
from server.grpcio_transport.transport import GrpcioTransport
from server.loaded_version import EngineFactory, LoadedVersion, load_folder
from server.loader import Loader
from server.metrics import ServerCollector, serve_metrics, stop_metrics
from server.model_config import Batching
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from server.security import Security
from server.service import Service
from server.settings import Settings
from server.transport import Transport

Install: TypeAlias = Callable[[RoutingTable], None]


@dataclass(frozen=True)
class Daemon:
    """A running daemon and the addresses it really bound. `follower` is None when one folder is served."""

    transport: Transport
    security: Security
    follower: Follower | None
    metrics: WSGIServer
    grpc_address: str
    metrics_address: str

    def stop(self, drain_delay: float) -> None:
        """Drain, then end everything."""
        self.transport.drain(drain_delay)
        self.security.stop()
        if self.follower is not None:
            self.follower.stop()
        stop_metrics(self.metrics)


def start(settings: Settings) -> Daemon:
    """Start serving.

    Raises:
        SettingsError: if the registry, the folder or an address is not usable; nothing is left running.
    """
    security = Security(settings)
    batching = Batching(settings.max_batch_rows, settings.max_queue_delay)
    service = Service(lambda: transport.counters(), batching)  # noqa: PLW0108 -- the transport does not exist yet
    transport: Transport = GrpcioTransport(settings, service.calls(), security)
    collector = ServerCollector(transport.counters, lambda: source.lifecycle() if isinstance(source, Follower) else None)

    def install(table: RoutingTable) -> None:
        transport.install(table)
        service.install(table)
        collector.install(table)

    make_engine: EngineFactory = partial(OnnxEngine, threads=settings.engine_threads)
    source = (
        _folder(settings.model_dir, settings.model_name, make_engine) if settings.model_dir else _follower(settings, make_engine, install)
    )
    metrics, metrics_address = serve_metrics(collector, settings.metrics_address)
    try:
        grpc_address = transport.start()
    except SettingsError:
        stop_metrics(metrics)
        raise
    security.start()
    if isinstance(source, Follower):
        source.start()
        return Daemon(transport, security, source, metrics, grpc_address, metrics_address)
    install(_table_of(source))
    return Daemon(transport, security, None, metrics, grpc_address, metrics_address)


def _follower(settings: Settings, make_engine: EngineFactory, install: Install) -> Follower:
    try:
        registry = open_registry(settings.registry, keys=Keys(trusted_keys=settings.trusted_keys))
        return Follower(registry, watch(settings.registry), Loader(registry, make_engine, settings.memory_budget, install))
    except RegistryError as error:
        raise SettingsError(str(error)) from error


def _folder(folder: Path, name: str | None, make_engine: EngineFactory) -> LoadedVersion:
    try:
        return load_folder(folder, name, make_engine)
    except NotServableError as error:
        raise SettingsError(str(error)) from error


def _table_of(version: LoadedVersion) -> RoutingTable:
    served = ServedModel(MappingProxyType({version.number: version}), MappingProxyType({PRODUCTION: version.number}), (version.number,))
    return RoutingTable(MappingProxyType({version.model: served}), complete=True)
