"""Tumbling windows over counts that only grow: which rows belong to which window, and which drift has lasted. Pure; time is handed in.

What one window says is `drift`'s; who counts, and by which clock, is the daemon's business.

**Boundaries.** A window by time ends at the whole multiples of its length since 1970, so that windows of several daemons cover the same
hours; the first one is shorter. It ends there even if nothing comes. A window by rows ends with the first counts that reach its rows, and
holds all of them. Counts belong to the window that is open when they are added, which is exact to the interval at which that happens.

**Persistence.** A drift is believed when `Limits.consecutive` completed windows in a row show it. A window with fewer than
`Limits.min_rows` values of a feature is no evidence: it neither confirms a drift nor ends it. Otherwise a quiet night would take back
every alarm, and an hour of five rows could raise none but still clear one.

**Clocks.** A time before the last one counts as the last one: a clock that goes back ends no window twice and opens none in the past.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from registry.drift import FeatureDrift, evaluate
from registry.drift_limits import Window
from registry.drift_tally import Tally
from registry.profile import Profile


@dataclass(frozen=True, eq=False)
class Span:
    """The rows counted from `started` to `ended`, in seconds since 1970."""

    profile: Profile
    started: float
    ended: float
    tally: Tally

    @cached_property
    def features(self) -> tuple[FeatureDrift, ...]:
        """What they say of each feature; computed when first asked for, and remembered."""
        return evaluate(self.profile, self.tally.by_feature(self.profile))


@dataclass(frozen=True, eq=False)
class OpenWindow:
    """The window that is open now: since when, and what had been counted then.

    `last` is the one completed before it, None if there is none; `streaks` is, for each feature, how many completed windows in a row it
    drifted in: int64 [features].
    """

    window: Window
    started: float
    before: Tally
    streaks: NDArray[np.int64]
    last: Span | None = None

    @property
    def ends(self) -> float:
        """When it ends, in seconds since 1970; infinite for a window by rows."""
        seconds = self.window.seconds
        return (self.started // seconds + 1) * seconds if seconds else math.inf

    def advanced(self, profile: Profile, now: float, total: Tally) -> "OpenWindow":
        """This window, or the one after it if it has ended by now."""
        if self.window.rows:
            return self if total.rows - self.before.rows < self.window.rows else self._closed(profile, now, total)
        if now < self.ends:
            return self
        closed = self._closed(profile, self.ends, total)
        begun = now // self.window.seconds * self.window.seconds
        if begun == closed.started:
            return closed
        # Nobody came by for longer than a window: those in between were empty, and the last of them is the last one completed.
        return replace(closed, started=begun, last=Span(profile, begun - self.window.seconds, begun, total - total))

    def _closed(self, profile: Profile, ended: float, total: Tally) -> "OpenWindow":
        span = Span(profile, self.started, ended, total - self.before)
        return OpenWindow(self.window, ended, total, _streaks(self.streaks, span), span)


@dataclass(frozen=True, eq=False)
class DriftWindows:
    """Everything counted since the start, and every window of the profile's limits. `time` is when it was last advanced."""

    everything: Span
    windows: tuple[OpenWindow, ...]
    time: float

    @classmethod
    def begin(cls, profile: Profile, now: float) -> Self:
        """Nothing counted yet, at `now`, in seconds since 1970."""
        nothing, streaks = Tally.nothing(profile), np.zeros(len(profile.features), np.int64)
        opened = [OpenWindow(window, now, nothing, streaks) for window in profile.limits.windows]
        return cls(Span(profile, now, now, nothing), tuple(opened), now)

    def advance(self, now: float, total: Tally) -> "DriftWindows":
        """The windows at `now`, when `total` has been counted since the start; itself where nothing has come and nothing has ended."""
        now = max(now, self.time)
        everything = self.everything
        grown = total.rows != everything.tally.rows
        if not grown and now < self._next:
            return self
        if grown:
            everything = Span(everything.profile, everything.started, now, total)
        return DriftWindows(everything, tuple(window.advanced(everything.profile, now, total) for window in self.windows), now)

    @cached_property
    def _next(self) -> float:
        return min((window.ends for window in self.windows), default=math.inf)

    def of(self, window: Window) -> OpenWindow:
        """The open window of this length.

        Raises:
            KeyError: if the limits have none.
        """
        found = next((opened for opened in self.windows if opened.window == window), None)
        if found is None:
            raise KeyError(window)
        return found

    def persistent(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Whether each feature has drifted in enough completed windows in a row, of this length or, without one, of any: [features]."""
        consecutive = self.everything.profile.limits.consecutive
        lasting = np.zeros(len(self.everything.profile.features), np.bool_)
        for opened in [self.of(window)] if window else self.windows:
            lasting |= opened.streaks >= consecutive
        return lasting


def _streaks(before: NDArray[np.int64], span: Span) -> NDArray[np.int64]:
    enough = span.profile.limits.min_rows
    if span.tally.rows < enough:
        return before
    evidence = np.array([feature.rows >= enough for feature in span.features], np.bool_)
    drifted = np.array([feature.drifted for feature in span.features], np.bool_)
    return np.where(evidence, np.where(drifted, before + 1, 0), before)
