"""The `Transport` of the Rust extension: starts it, installs what is loaded, drains it, reads its counts."""

import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import tidegate_native

from registry.bundle import TensorSpec
from registry.names import PRODUCTION
from server.clock import steady_clock
from server.counts import ROWS, SECONDS, Counters, Histogram, VersionCounts
from server.drift_counters import DriftCounters
from server.errors import SettingsError
from server.listeners import with_port
from server.loaded_version import LoadedVersion
from server.native.credentials import listed
from server.native.drift import NativeRows
from server.native.functions import Functions, names_of
from server.native.log import tell
from server.native.runs import Runs
from server.observed import Observers
from server.routing import RoutingTable, ServedModel
from server.security import Security
from server.service import Call
from server.settings import Settings
from server.unix_sockets import path_of

STOP_SECONDS = 30.0
"""How long requests in flight may take to end once the daemon stops."""
CLOSE_SECONDS = 1.0
"""How long answers already given may take to leave."""
FOLD_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""How long an engine may have to wait for the interpreter while another thread computes; ten times as much is Python's default."""

_Spec: TypeAlias = tuple[str, str, Sequence[int]]
"""Name, datatype and shape of a tensor."""


@dataclass(frozen=True)
class _Version:
    """A loaded version, as Rust reads it: see `src/server.rs`."""

    model: str
    number: int
    digest: str
    inputs: Sequence[_Spec]
    outputs: Sequence[_Spec]
    batchable: bool
    always: Sequence[str]
    run: Callable[..., Any]
    log: tuple[Callable[..., Any], float] | None
    drift: tidegate_native.DriftCounting | None


@dataclass(frozen=True)
class _Model:
    """A model as it is served, as Rust reads it."""

    name: str
    labels: Mapping[str, int]
    canaries: Sequence[tuple[int, int]]
    shadows: Sequence[int]
    ready: bool


class NativeTransport:
    """See `server.transport.Transport`."""

    def __init__(self, settings: Settings, calls: Mapping[str, Call], security: Security, observers: Observers) -> None:
        self._settings = settings
        self._security = security
        self._observers = observers
        self._functions = Functions(calls, security, observers)
        self._drift = DriftCounters(steady_clock(), NativeRows)
        self._loaded: Mapping[tuple[str, int, str], _Version] = {}
        self._stopped = threading.Event()
        self._server = tidegate_native.Server(
            settings,
            call=self._functions.call,
            explain=self._functions.explain,
            authenticate=self._functions.authenticate,
            permit=self._functions.permit,
            admit=self._functions.admit,
            names=names_of,
            observe=self._functions.traced if observers.call else None,
            authenticated=security.access.required,
            process=secrets.token_hex(8),
            seconds=SECONDS,
            rows=ROWS,
        )
        self._renew()
        security.on_renewal(self._renew)

    def start(self) -> str:
        """See `Transport.start`."""
        address = self._settings.grpc_address
        path = path_of(address)
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            port = self._server.start(address if path is None else f"unix:{path}", self._settings.replicas > 1)
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}: is it taken? Choose another with --grpc-address") from error
        threading.Thread(target=self._fold, name="fold", daemon=True).start()
        return address if port is None else with_port(address, port)

    def install(self, table: RoutingTable) -> None:
        """See `Transport.install`."""
        before = self._loaded
        loaded = {(version.model, version.number, version.digest): version for version in table.loaded}
        self._loaded = {key: before[key] if key in before else self._version(version) for key, version in loaded.items()}
        models = [_model(name, served) for name, served in table.models.items()]
        with self._functions.installing(table):
            self._server.install(list(self._loaded.values()), models, table.complete)
        for key in {(model, number) for model, number, _ in before} - {version.key for version in table.loaded}:
            self._drift.end(key)

    def drain(self, seconds: float) -> None:
        """See `Transport.drain`."""
        self._server.leave()
        time.sleep(seconds)
        self._server.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self._server.in_flight and time.monotonic() < deadline:
            time.sleep(0.005)
        self._server.hang_up()
        time.sleep(CLOSE_SECONDS)
        self._server.stop()
        self._stopped.set()

    def counters(self) -> Counters:
        """See `Transport.counters`."""
        counts = self._server.counts()
        requests = {
            (model, str(number), arm, code): seen for (model, number), version in counts.versions.items() for arm, code, seen in version[0]
        }
        requests |= {("", "", "", code): seen for code, seen in counts.unrouted.items()}
        versions = {key: _version_counts(*version[1:]) for key, version in counts.versions.items()}
        drift = {key: counter.counts() for key, counter in self._drift.loaded.items()}
        return Counters(requests, counts.rejected, versions, counts.queue_rows, drift, counts.in_flight)

    def _renew(self) -> None:
        self._server.renew_access(*listed(self._security.access))
        material = self._security.tls
        if material is not None:
            self._server.renew_tls(material.chain, material.key, material.client_ca)

    def _fold(self) -> None:
        while not self._stopped.wait(FOLD_SECONDS):
            self._drift.fold()

    def _version(self, version: LoadedVersion) -> _Version:
        drift = self._drift.begin(version)
        runs, log = Runs(version), self._observers.batch
        inputs, outputs = _specs(version.signature.inputs), _specs(version.signature.outputs)
        always, counting = (drift.outputs, drift.rows.counting) if drift else ((), None)
        told = (partial(tell, version, log), self._observers.share) if log else None
        return _Version(version.model, version.number, version.digest, inputs, outputs, version.batchable, always, runs.run, told, counting)


def _specs(specs: Sequence[TensorSpec]) -> list[_Spec]:
    return [(spec.name, spec.datatype, spec.shape) for spec in specs]


def _model(name: str, served: ServedModel) -> _Model:
    labels = {str(number): number for number in served.versions} | dict(served.stages)
    stable = served.stages.get(PRODUCTION)
    canaries = [(number, served.split[number]) for number in sorted(served.split) if number != stable]
    return _Model(name, labels, canaries, served.shadows, served.ready)


def _version_counts(histograms: Sequence[tuple[Sequence[int], float]], failed_seconds: float, last_answer: float) -> VersionCounts:
    bounds = (SECONDS, SECONDS, SECONDS, ROWS)
    request, queue, compute, rows = (
        Histogram(bound, tuple(counts), total) for bound, (counts, total) in zip(bounds, histograms, strict=True)
    )
    return VersionCounts(request, queue, compute, rows, failed_seconds, last_answer)
