"""The `Transport` of grpcio: listens, keeps the steps of the pipeline together, drains."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from server.counts import Counters
from server.errors import SettingsError
from server.grpcio_transport import direct
from server.grpcio_transport.auth import server_credentials
from server.grpcio_transport.calls import CONTROL_THREADS, Control, Handlers, methods
from server.grpcio_transport.counters import RequestCounters
from server.grpcio_transport.options import channel_options
from server.grpcio_transport.pipeline import Pipeline
from server.guard import Guard
from server.health import Health
from server.listeners import with_port
from server.observed import Observers
from server.routing import RoutingTable
from server.security import Security
from server.service import Call
from server.settings import Settings
from server.unix_sockets import path_of

FOLD_SECONDS = 0.25
STOP_SECONDS = 30.0
"""How long requests in flight may take to end once the daemon stops."""
CLOSE_SECONDS = 1.0
"""How long answers already given may take to leave."""


class GrpcioTransport:
    """See `server.transport.Transport`."""

    def __init__(self, settings: Settings, calls: Mapping[str, Call], security: Security, observers: Observers) -> None:
        direct.check()
        self._settings = settings
        self._security = security
        self._counters = RequestCounters()
        guard = Guard(security)
        self._pipeline = Pipeline(settings, self._counters, guard, observers)
        self._health = Health()
        self._stopped = threading.Event()
        # Off for one daemon: a second would take half of its connections and nobody would know.
        options = [("grpc.so_reuseport", int(settings.replicas > 1)), *channel_options(settings)]
        threads = ThreadPoolExecutor(CONTROL_THREADS, "control")
        self._server = grpc.server(threads, options=options)
        self._server.add_generic_rpc_handlers([Handlers(methods(self._pipeline, self._health, calls, Control(threads), guard))])

    def start(self) -> str:
        """See `Transport.start`."""
        address = self._settings.grpc_address
        try:
            port = self._listen(address)
        except RuntimeError as error:
            raise SettingsError(f"cannot listen on {address}: is it taken? Choose another with --grpc-address") from error
        self._server.start()
        threading.Thread(target=self._fold, name="fold", daemon=True).start()
        return address if path_of(address) else with_port(address, port)

    def _listen(self, address: str) -> int:
        credentials = server_credentials(self._security)
        return self._server.add_insecure_port(address) if credentials is None else self._server.add_secure_port(address, credentials)

    def install(self, table: RoutingTable) -> None:
        """See `Transport.install`."""
        self._pipeline.install(table)
        self._health.install(table)

    def drain(self, seconds: float) -> None:
        """See `Transport.drain`."""
        self._health.stop()
        time.sleep(seconds)
        self._pipeline.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self._pipeline.admission.requests and time.monotonic() < deadline:
            time.sleep(0.005)
        # Not for ever: whatever has happened to the thread that serves, the program ends.
        self._server.stop(CLOSE_SECONDS).wait(2 * CLOSE_SECONDS)
        self._pipeline.join(CLOSE_SECONDS)
        self._stopped.set()

    def counters(self) -> Counters:
        """See `Transport.counters`."""
        queued = {key: lane.batcher.queue_rows for key, lane in self._pipeline.lanes.items()}
        drift = {key: counter.counts() for key, counter in self._pipeline.drift.loaded.items()}
        return self._counters.snapshot(queued, drift, self._pipeline.admission.requests)

    def _fold(self) -> None:
        while not self._stopped.wait(FOLD_SECONDS):
            self._counters.fold()
            self._pipeline.drift.fold()
