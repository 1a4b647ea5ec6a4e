"""Loads and lets go of versions as the states of the models ask for it, on threads of its own, and installs what has become of it.

A change that needs no loading, such as a rollback, is installed at once, whatever else is being loaded. What to load is decided in `plan`,
how a version is loaded and checked in `loaded_version`.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import structlog

from registry.names import PRODUCTION
from registry.registry import Registry
from registry.state import ModelState
from server import plan
from server.counts import VersionKey
from server.errors import NotServableError
from server.heap import give_back
from server.loaded_version import EngineFactory, LoadedVersion, load, memory_bytes
from server.plan import Part
from server.routing import RoutingTable, ServedModel

RETRY_SECONDS = 30.0
"""A version that failed to load is tried again after this: the disk may have been full of something else."""
LOADERS = 2
"""Versions loaded at once: one that takes long must not hold up the promotion of another model."""
START_SECONDS = 0.25
"""How often, at most, a table is installed while the first versions load: each names every model."""
PROGRESS_SECONDS = 5.0
STOP_SECONDS = 1.0
"""How long the end of the daemon waits for what is being loaded, or read from a registry that does not answer."""
LARGE_BYTES = 8 << 20
"""After loading a version that takes this much, what loading it has freed is given back: as much again, or twice as much."""

_log = structlog.get_logger("tidegate.loader")


@dataclass(frozen=True)
class Failure:
    """Why a version did not load, and when, in seconds of `time.monotonic`, that was last tried."""

    reason: str
    at: float


@dataclass
class Model:
    """What is known of one model. Changed only under the loader's lock."""

    state: ModelState
    versions: dict[int, LoadedVersion] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    parts: Mapping[int, Part] = field(default_factory=dict)
    served: ServedModel = field(default_factory=lambda: ServedModel(MappingProxyType({}), MappingProxyType({}), ()))

    @property
    def fallback(self) -> int | None:
        """The version that answers production because the stable one does not load."""
        answering = self.served.stages.get(PRODUCTION)
        return answering if self.state.production in self.failures and answering != self.state.production else None


class Loader:
    """Keeps the installed table what the states say, as far as versions load and memory allows; thread-safe."""

    def __init__(self, registry: Registry, make_engine: EngineFactory, memory_budget: int, install: Callable[[RoutingTable], None]) -> None:
        self._make_engine = make_engine
        self._install = install
        self.memory_budget = memory_budget
        self._models: dict[str, Model] = {}
        self._failed: Counter[VersionKey] = Counter()
        self._costs: dict[VersionKey, int] = {}
        self._refused: dict[VersionKey, str] = {}
        self._queue: dict[VersionKey, Part] = {}
        self._loading: set[VersionKey] = set()
        self._unsettled: set[str] = set()
        self._dirty = self._read = self._complete = self._exceeded = self._unshared = self._stopped = False
        self._installed = self._told = time.monotonic()
        self._changed = threading.Condition()
        # A registry is for one thread at a time.
        registries = [replace(registry) for _ in range(LOADERS)]
        self._threads = [threading.Thread(target=self._run, args=[own], name="loader", daemon=True) for own in registries]
        self._threads.append(threading.Thread(target=self._install_while_starting, name="installer", daemon=True))

    def start(self) -> None:
        """Begin to load what is asked for."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Load no more; returns when what is being loaded is, or soon."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        end = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def follow(self, states: Sequence[ModelState], file_bytes: Mapping[VersionKey, int]) -> None:
        """Serve these models by these states from now on; `file_bytes` are the sizes of their model.onnx, as far as they are known."""
        with self._changed:
            self._price({key: memory_bytes(size) for key, size in file_bytes.items()})
            self._read = True
            for state in states:
                self._models.setdefault(state.model, Model(state)).state = state
            self._replan({state.model for state in states})

    def retry(self) -> float:
        """Try again what failed to load long enough ago; returns in how many seconds something else may be due."""
        with self._changed:
            self._replan({name for name, model in self._models.items() if model.failures})
            under_way = {*self._queue, *self._loading, *self._refused}
            waits = (
                _due_in(model, number)
                for name, model in self._models.items()
                for number in model.failures.keys() & model.parts.keys()
                if (name, number) not in under_way
            )
            return min(waits, default=RETRY_SECONDS)

    def failures(self) -> Mapping[VersionKey, int]:
        """How often each version did not load."""
        with self._changed:
            return dict(self._failed)

    def fallbacks(self) -> Mapping[str, int]:
        """The models whose stable version does not load, and the version that answers in its place."""
        with self._changed:
            return {name: model.fallback for name, model in self._models.items() if model.fallback is not None}

    def _run(self, registry: Registry) -> None:
        while (key := self._take()) is not None:
            try:
                self._loaded(key, self._load(registry, *key))
            except Exception:  # noqa: BLE001 -- a defect of ours must not end the loading: the next promotion has to be served
                _log.exception("installing failed, serving what is installed", model=key[0], version=key[1])

    def _install_while_starting(self) -> None:
        """Install what is loaded even if no version that loads next does so soon."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._complete or self._stopped, START_SECONDS):
                self._install_table()

    def _take(self) -> VersionKey | None:
        """The next version to load, the most wanted first; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped)
            if self._stopped:
                return None
            key = min(self._queue, key=lambda key: (self._queue[key], key))
            del self._queue[key]
            self._loading.add(key)
            return key

    def _load(self, registry: Registry, model: str, number: int) -> LoadedVersion | str:
        """The version, or why it does not load."""
        try:
            version = load(registry, model, number, self._make_engine)
        except NotServableError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 -- one bad bundle must not keep the others from being served
            _log.exception("loading failed in a way nobody thought of", model=model, version=number)
            return f"loading failed in a way nobody thought of: {error!r}"
        if version.memory_bytes >= LARGE_BYTES:
            give_back()
        return version

    def _loaded(self, key: VersionKey, outcome: LoadedVersion | str) -> None:
        name, number = key
        with self._changed:
            model = self._models[name]
            self._loading.discard(key)
            if isinstance(outcome, str):
                self._failed[key] += 1
                _tell_failure(key, outcome, model.failures.get(number))
                model.failures[number] = Failure(outcome, time.monotonic())
            else:
                model.failures.pop(number, None)
                model.versions[number] = outcome
                self._price({key: outcome.memory_bytes})
                _log.info("version loaded", model=name, version=number, seconds=round(outcome.load_seconds, 3))
            self._replan({name})

    def _replan(self, names: set[str]) -> None:
        """Decide anew about these models, and about those that memory is then given to or taken from; install what comes of it."""
        for name in names:
            model = self._models[name]
            for number in model.parts:
                self._queue.pop((name, number), None)
            before, model.parts = model.parts, plan.wanted(model.state, model.versions, model.failures, model.served.stages)
            self._unshared = self._unshared or model.parts != before
        if self.memory_budget and self._unshared:
            names = names | self._share_memory()
        for name in sorted(names):
            self._apply(name, self._models[name])
        self._changed.notify_all()
        self._install_table()

    def _price(self, costs: Mapping[VersionKey, int]) -> None:
        """Note what versions take: of most it is known before they load, but not of one that stands in for others that fail."""
        self._unshared = self._unshared or any(self._costs.get(key) != cost for key, cost in costs.items())
        self._costs |= costs

    def _share_memory(self) -> set[str]:
        """Give out the memory again; returns the models to which that makes a difference."""
        self._unshared = False
        parts = {(name, number): part for name, model in self._models.items() for number, part in model.parts.items()}
        before, self._refused = self._refused, plan.refusals(parts, self._costs, self.memory_budget)
        for key in sorted(self._refused.keys() - before.keys()):
            _log.warning("version not loaded for want of memory", model=key[0], version=key[1], reason=self._refused[key])
        stable = sum(self._costs.get(key, 0) for key, part in parts.items() if part is Part.STABLE)
        exceeded, self._exceeded = self._exceeded, stable > self.memory_budget
        if self._exceeded and not exceeded:
            _log.warning("stable versions alone exceed the memory budget", bytes=stable, budget=self.memory_budget)
        return {key[0] for key, _ in self._refused.items() ^ before.items()}

    def _apply(self, name: str, model: Model) -> None:
        """Let go of what is not asked for, queue what is, serve with what there is."""
        before = model.served
        for number in list(model.versions):
            if number not in model.parts or (name, number) in self._refused:
                del model.versions[number]
                _log.info("version unloaded", model=name, version=number)
        for number, part in model.parts.items():
            key = (name, number)
            if key in self._refused:
                self._queue.pop(key, None)
            elif number not in model.versions and key not in self._loading and _due_in(model, number) <= 0:
                self._queue[key] = part
        if plan.settled(model.state, model.versions, model.failures, before.stages):
            self._unsettled.discard(name)
        else:
            self._unsettled.add(name)
        model.served = plan.served(model.state, model.versions, model.failures, before.stages, self._reasons(name, model))
        self._dirty = self._dirty or model.served != before
        if (model.served.stages, model.served.split, model.served.shadows) != (before.stages, before.split, before.shadows):
            _tell_route(name, model)

    def _reasons(self, name: str, model: Model) -> dict[int, str]:
        """Why which of the versions that are asked for are not loaded; that one kept for a rollback is let go is no failure."""
        refused = {
            number: self._refused[name, number]
            for number, part in model.parts.items()
            if (name, number) in self._refused and part is not Part.ROLLBACK
        }
        return {number: failure.reason for number, failure in model.failures.items() if number in model.parts} | refused

    def _install_table(self) -> None:
        complete = self._complete or (self._read and not self._unsettled)
        now = time.monotonic()
        ready = complete and not self._complete
        if not ready and not self._dirty:
            return
        if not complete and self._queue and now - self._installed < START_SECONDS:
            return  # the next version that is loaded installs it, or else the installer
        self._install(RoutingTable(MappingProxyType({name: model.served for name, model in self._models.items()}), complete))
        self._dirty, self._complete, self._installed = False, complete, now
        if ready or (not complete and now - self._told >= PROGRESS_SECONDS):
            self._told = now
            loaded = sum(len(model.versions) for model in self._models.values())
            _log.info("ready" if ready else "loading", models=len(self._models), loaded=loaded, waiting=len(self._queue))


def _due_in(model: Model, number: int) -> float:
    """Seconds until a version may be loaded; 0 if it has not failed."""
    return model.failures[number].at + RETRY_SECONDS - time.monotonic() if number in model.failures else 0.0


def _tell_failure(key: VersionKey, reason: str, known: Failure | None) -> None:
    if known is None or known.reason != reason:
        _log.error("version not servable", model=key[0], version=key[1], error=reason)


def _tell_route(name: str, model: Model) -> None:
    served = model.served
    about = {"stages": dict(served.stages), "split": dict(served.split), "shadows": list(served.shadows)}
    _log.info("serving", model=name, **about, loaded=sorted(served.versions), commit=model.state.seq)
    if model.fallback is not None:
        stable = model.state.production
        _log.error("an earlier version answers: the stable one does not load", model=name, version=model.fallback, stable=stable)
