"""Follows the logs of the registry and hands the states of its models to the loader, on a thread of its own.

It never asks the control plane, and what is loaded goes on being served when the registry, or the log of one model, cannot be read.
"""

import threading
import time
from collections.abc import Mapping

import structlog

from registry import bundle
from registry.errors import RegistryError
from registry.registry import Registry
from registry.state import ModelState
from registry.watch import Watcher
from server.counts import VersionKey
from server.lifecycle import Lifecycle
from server.loader import STOP_SECONDS, Loader

_log = structlog.get_logger("tidegate.follower")


class Follower:
    """Tells `loader` of every change; loads nothing itself."""

    def __init__(self, registry: Registry, watcher: Watcher, loader: Loader) -> None:
        self._registry = registry
        self._watcher = watcher
        self._loader = loader
        self._seen: dict[str, str | None] = {}
        self._told: dict[str, str] = {}
        self._reachable = True
        self._read_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._loader.start()
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; returns when the last step is done, or soon."""
        self._stopped.set()
        self._watcher.close()
        self._thread.join(STOP_SECONDS)
        self._loader.stop()

    def lifecycle(self) -> Lifecycle:
        """How well the registry is followed."""
        age = time.monotonic() - self._read_at
        return Lifecycle(self._reachable, age, self._loader.failures(), self._loader.fallbacks(), self._loader.memory_budget)

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
            self._watcher.wait(self._loader.retry())

    def _follow(self) -> None:
        begun = time.monotonic()
        names = self._registry.models()
        problems = dict.fromkeys(self._seen.keys() - set(names), "it is gone from the registry")
        changed = []
        for name in names:
            try:
                state = self._registry.state(name)
            except RegistryError as error:
                problems[name] = str(error)
                continue
            if self._seen.get(name) != state.head:
                changed.append(state)
        self._loader.follow(changed, self._file_bytes(changed) if self._loader.memory_budget else {})
        self._seen |= {state.model: state.head for state in changed}
        for name, problem in problems.items():
            if self._told.get(name) != problem:
                _log.error("model unreadable, serving what is loaded of it", model=name, error=problem)
        self._told = problems
        if not problems:
            self._read_at = begun

    def _file_bytes(self, states: list[ModelState]) -> Mapping[VersionKey, int]:
        """The sizes of the models that may have to be loaded; one that cannot be read will say so when it is."""
        sizes: dict[VersionKey, int] = {}
        for state in states:
            routed = {number for route in (state.route, state.previous_route) if route for number in route.target.versions}
            for number in routed if state.staging is None else routed | {state.staging}:
                try:
                    sizes[state.model, number] = self._registry.manifest(state.model, number).file(bundle.MODEL).size
                except RegistryError:
                    continue
        return sizes
