"""The drift of each version over time: what its transport has counted of its rows goes through windows.

Whose rows are counted, and where, is the transport's business; how a row is counted is in `drift_counting`, what becomes of counts over
time in `registry.drift_windows`.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog

from registry.bundle import Signature
from registry.drift_tally import Tally
from registry.drift_windows import DriftWindows
from registry.profile import Profile
from server.clock import Clock
from server.counts import COUNTED_ARMS, PRODUCTION, PRODUCTION_ARMS, DriftCounts, VersionKey
from server.drift_places import counted_outputs, uncounted
from server.loaded_version import LoadedVersion

KEPT_UNLOADED = 32
"""Versions that are loaded no more and whose counts are kept, in case they are loaded again; of more, the first to go are forgotten."""

_log = structlog.get_logger("tidegate.drift")


class Totals(NamedTuple):
    """What was counted of each of `COUNTED_ARMS` so far; `lost` are the features of which not all rows were."""

    arms: Mapping[str, Tally]
    lost: frozenset[str]


class RowCounts(Protocol):
    """Counts the rows of one version; thread-safe."""

    def totals(self) -> Totals:
        """Of every row answered so far: they only grow."""
        ...


Rows = TypeVar("Rows", bound=RowCounts)


class DriftCounter(Generic[Rows]):
    """The drift of one version, by what `rows` has counted; thread-safe."""

    def __init__(self, version: LoadedVersion, profile: Profile, clock: Clock, rows: Rows) -> None:
        # Not the version itself: its model must go when it is unloaded.
        self._key = version.key
        self._files = (version.digest, version.signature, profile)
        self._profile = profile
        self._clock = clock
        self.rows = rows
        self.outputs = counted_outputs(profile, version.signature)
        """the outputs that every batch needs for the predictions to be counted"""
        self._totals = dict.fromkeys(COUNTED_ARMS, Tally.nothing(profile))
        self._windows = dict.fromkeys((PRODUCTION, *COUNTED_ARMS), DriftWindows.begin(profile, clock()))
        self._uncounted: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._miss(uncounted(profile, version.signature), "no tensor has their values")

    def is_of(self, version: LoadedVersion) -> bool:
        """Whether `version` is the one that is counted here, perhaps loaded anew."""
        return self._files == (version.digest, version.signature, version.profile)

    def fold(self) -> None:
        """Take over what has been counted, and end the windows whose time has come."""
        with self._lock:
            totals, lost = self.rows.totals()
            for arm, tally in totals.items():
                # The same value while nothing came: see `_advanced`.
                if tally.rows != self._totals[arm].rows:
                    self._totals[arm] = tally
            self._miss(lost, "a tensor came in another shape or type than the signature has it")
            self._windows = self._advanced(self._clock())

    def counts(self) -> DriftCounts:
        """The counts of every row answered so far."""
        self.fold()
        with self._lock:
            return DriftCounts(self._profile, self._windows, self._uncounted)

    def _advanced(self, now: float) -> dict[str, DriftWindows]:
        """The windows at `now`; arms that have seen the same so far, as production does without a canary, are advanced once for all."""
        stable, canary = (self._totals[arm] for arm in PRODUCTION_ARMS)
        production = stable + canary if stable.rows and canary.rows else canary if canary.rows else stable
        totals = {PRODUCTION: production, **self._totals}
        advanced: dict[tuple[int, int], DriftWindows] = {}
        for arm, windows in self._windows.items():
            seen = id(windows), id(totals[arm])
            if seen not in advanced:
                advanced[seen] = windows.advance(now, totals[arm])
        return {arm: advanced[id(windows), id(totals[arm])] for arm, windows in self._windows.items()}

    def _miss(self, features: frozenset[str], why: str) -> None:
        """Say once of a feature that its counts are not, or not all, there."""
        if lost := sorted(features - self._uncounted):
            self._uncounted |= features
            model, version = self._key
            _log.warning("features are not counted", model=model, version=version, features=lost[:10], number=len(lost), why=why)


class DriftCounters(Generic[Rows]):
    """The counter of every loaded version that has a profile, and of some that are loaded no more: loaded again, they count on.

    `make` makes what counts the rows of a version.
    """

    def __init__(self, clock: Clock, make: Callable[[Profile, Signature], Rows]) -> None:
        self._clock = clock
        self._make = make
        self._loaded: dict[VersionKey, DriftCounter[Rows]] = {}
        self._unloaded: dict[VersionKey, DriftCounter[Rows]] = {}

    @property
    def loaded(self) -> Mapping[VersionKey, DriftCounter[Rows]]:
        """Of the versions loaded now."""
        return dict(self._loaded)

    def begin(self, version: LoadedVersion) -> DriftCounter[Rows] | None:
        """The counter of a version that is loaded: the one it had before, if it had one; None if it has no profile to count by."""
        kept = self._unloaded.pop(version.key, None)
        profile = version.profile
        if profile is None:
            return None
        if kept is None or not kept.is_of(version):
            kept = DriftCounter(version, profile, self._clock, self._make(profile, version.signature))
        self._loaded[version.key] = kept
        return kept

    def end(self, key: VersionKey) -> None:
        """A version is unloaded: its counts are kept for a while."""
        if counter := self._loaded.pop(key, None):
            self._unloaded[key] = counter
            while len(self._unloaded) > KEPT_UNLOADED:
                del self._unloaded[next(iter(self._unloaded))]

    def fold(self) -> None:
        """Take over what was counted of all, and end their windows: of those unloaded too, whose time goes on."""
        for key, counter in (*self._loaded.items(), *self._unloaded.items()):
            try:
                counter.fold()
            except Exception:  # noqa: BLE001 -- a defect with one version must not end the thread that counts for all
                _log.exception("rows could not be counted", model=key[0], version=key[1])
