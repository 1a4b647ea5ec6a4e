"""Follows the logs of the registry and turns them into routing tables, on a thread of its own and off the path of the requests.

It never asks the control plane, and what is loaded goes on being served when the registry cannot be read.
"""

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import structlog

from registry.errors import RegistryError
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.state import ModelState
from registry.watch import Watcher
from server.errors import NotServableError
from server.loaded_version import EngineFactory, LoadedVersion, load
from server.routing import RoutingTable, ServedModel

RETRY_SECONDS = 30.0
"""A version that failed to load is tried again after this: the disk may have been full of something else."""

_log = structlog.get_logger("tidegate.follower")


class Follower:
    """Keeps the installed table what the registry says, as far as versions load."""

    def __init__(self, registry: Registry, watcher: Watcher, make_engine: EngineFactory, install: Callable[[RoutingTable], None]) -> None:
        self._registry = registry
        self._watcher = watcher
        self._make_engine = make_engine
        self._install = install
        self._models: dict[str, ServedModel] = {}
        self._failures: dict[tuple[str, int], float] = {}
        self._told: dict[str, int] = {}
        self._reachable = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; returns when the last step is done."""
        self._stopped.set()
        self._watcher.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
                self._reachable = True
            except RegistryError as error:
                if self._reachable:
                    _log.warning("registry unreadable, serving what is loaded", error=str(error))
                self._reachable = False
            except Exception:  # noqa: BLE001 -- a defect of ours must not end the following: the next promotion has to be seen
                _log.exception("following failed, serving what is loaded")
            self._watcher.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        for name in self._registry.models():
            try:
                state = self._registry.state(name)
            except RegistryError as error:
                _log.error("model unreadable, serving what is loaded of it", model=name, error=str(error))
                continue
            self._update(name, state)
        self._publish(complete=True)

    def _update(self, name: str, state: ModelState) -> None:
        """Load what the state asks for; a stage whose version does not load keeps the version it had."""
        before = self._models.get(name)
        versions = dict(before.versions) if before else {}
        for number in _wanted(state):
            if number not in versions and (loaded := self._load(name, number)) is not None:
                versions[number] = loaded
        stages = _stages(state, versions, before.stages if before else {})
        keep = {*stages.values(), *_wanted(state)}
        served = ServedModel(
            MappingProxyType({number: version for number, version in versions.items() if number in keep}),
            MappingProxyType(stages),
            tuple(state.versions),
        )
        self._tell_of_canaries(state)
        if served != before:
            self._models[name] = served
            if before is not None:
                self._publish(complete=True)
            _log.info("serving", model=name, stages=stages, loaded=sorted(served.versions), commit=state.seq)

    def _tell_of_canaries(self, state: ModelState) -> None:
        route = state.route
        if route and len(route.target.versions) > 1 and self._told.get(state.model) != route.seq:
            self._told[state.model] = route.seq
            _log.warning("canaries and shadows get no traffic: all goes to the stable version", model=state.model, stable=route.stable)

    def _load(self, name: str, number: int) -> LoadedVersion | None:
        if time.monotonic() - self._failures.get((name, number), -RETRY_SECONDS) < RETRY_SECONDS:
            return None
        try:
            version = load(self._registry, name, number, self._make_engine)
        except NotServableError as error:
            self._failures[name, number] = time.monotonic()
            _log.error("version not servable", model=name, version=number, error=str(error))
            return None
        except Exception:  # noqa: BLE001 -- one bad bundle must not keep the other models from being served
            self._failures[name, number] = time.monotonic()
            _log.exception("version not servable", model=name, version=number)
            return None
        _log.info("version loaded", model=name, version=number, seconds=round(version.load_seconds, 3))
        return version

    def _publish(self, *, complete: bool) -> None:
        self._install(RoutingTable(MappingProxyType(dict(self._models)), complete))


def _wanted(state: ModelState) -> list[int]:
    """The versions to have loaded: those in a stage, and the one a rollback would return to, so that it is immediate."""
    previous = state.previous_route
    numbers = (state.production, state.staging, previous.stable if previous else None)
    return [number for number in dict.fromkeys(numbers) if number is not None]


def _stages(state: ModelState, versions: Mapping[int, LoadedVersion], before: Mapping[str, int]) -> dict[str, int]:
    asked = {PRODUCTION: state.production, STAGING: state.staging}
    stages = {}
    for stage, number in asked.items():
        if number is not None:
            fallback = before.get(stage)
            stages[stage] = fallback if number not in versions and fallback in versions and fallback is not None else number
    return stages
