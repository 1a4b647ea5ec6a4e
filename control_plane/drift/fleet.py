"""The drift of a version over all daemons: their counts, added up and judged once by the version's own profile. Pure.

Counts in the same bins add, verdicts do not: what each daemon thinks of its own share of the traffic is left aside. But whether a
drift has lasted no sum can tell, since each daemon alone remembers its windows: for the fleet it has where it has at any daemon.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from control_plane.errors import DaemonsDisagreeError
from registry import drift
from registry.drift import FeatureDrift
from registry.profile import Counts, Profile
from tidegate_client import Drift, TidegateError, UnavailableError
from tidegate_client import FeatureDrift as FeatureCounts


@dataclass(frozen=True)
class DaemonRows:
    """What one daemon gave: rows, or the reason it gave none."""

    daemon: str
    rows: int | None
    persistent: tuple[str, ...]
    """Features whose drift has lasted in the traffic of this daemon"""
    error: str | None


@dataclass(frozen=True)
class FleetDrift:
    """The drift of one version; `rows` are those of the daemons that answered.

    They were counted from `started` to `ended`, in seconds since 1970: the earliest and the latest of any daemon, None while none has
    completed such a window. Windows by time cover the same hours at all daemons, windows by rows do not.
    """

    model: str
    version: int
    window: str
    """The tumbling window that was completed last; empty: everything since the daemons first loaded the version"""
    arm: str
    """Empty: production traffic"""
    rows: int
    started: float | None
    ended: float | None
    daemons: tuple[DaemonRows, ...]
    features: tuple[FeatureDrift, ...]
    uncounted: tuple[str, ...]
    """Features of the profile that the daemons have no column for."""
    windows: tuple[str, ...]
    """Those that may be asked for: the profile's limits have them"""

    @property
    def partial(self) -> bool:
        """Whether a daemon did not answer, and with it rows are missing."""
        return any(daemon.rows is None for daemon in self.daemons)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    @property
    def persistent(self) -> tuple[str, ...]:
        """Names of the features whose drift has lasted at any daemon."""
        lasting = {name for daemon in self.daemons for name in daemon.persistent}
        return tuple(feature.name for feature in self.features if feature.name in lasting)

    @property
    def warned(self) -> tuple[str, ...]:
        """Names of the features worth a look."""
        return tuple(feature.name for feature in self.features if feature.warned)


def together(model: str, version: int, profile: Profile, answers: Mapping[str, Drift | TidegateError]) -> FleetDrift:
    """The counts of all daemons in `answers`, by address, added up and judged; all answer about one window and arm.

    A daemon that has not completed such a window yet takes part with no rows.

    Raises:
        TidegateError: if none of them answered.
        DaemonsDisagreeError: if one counts in other bins than those of the profile, or not the features that another counts.
    """
    counted = {daemon: answer for daemon, answer in answers.items() if isinstance(answer, Drift)}
    errors = [answer for answer in answers.values() if isinstance(answer, TidegateError)]
    if not counted:
        # One that is down may have what another does not know: that it cannot be told goes before.
        raise next((error for error in errors if isinstance(error, UnavailableError)), errors[0])
    places = {daemon: _places(profile, daemon, version, answer) for daemon, answer in counted.items()}
    complete = {daemon: answer for daemon, answer in counted.items() if answer.ended}
    _check_alike(profile, {daemon: places[daemon] for daemon in complete})
    seen = next((places[daemon] for daemon in complete), ())
    first = next(iter(counted.values()))
    return FleetDrift(
        model=model,
        version=version,
        window=first.window,
        arm=first.arm,
        rows=sum(answer.rows for answer in complete.values()),
        started=min((answer.started for answer in complete.values()), default=None),
        ended=max((answer.ended for answer in complete.values()), default=None),
        daemons=tuple(_said(daemon, answer) for daemon, answer in answers.items()),
        features=drift.evaluate(_only(profile, seen), _total(list(complete.values()))),
        uncounted=_uncounted(profile, seen) if complete else first.uncounted,
        windows=tuple(str(window) for window in profile.limits.windows),
    )


def _uncounted(profile: Profile, seen: Sequence[int]) -> tuple[str, ...]:
    return tuple(feature.name for place, feature in enumerate(profile.features) if place not in seen)


def _places(profile: Profile, daemon: str, version: int, answer: Drift) -> tuple[int, ...]:
    """Which of the profile's features a daemon counts: it tells them in their order, without those it has no column for."""
    remaining = iter(enumerate(profile.features))
    found = []
    for theirs in answer.features:
        place = next((place for place, ours in remaining if (ours.name, ours.bins) == (theirs.name, theirs.bins)), None)
        if place is None:
            raise _disagreement(profile, daemon, version, theirs)
        found.append(place)
    if answer.version != str(version):
        raise DaemonsDisagreeError(f"{daemon} told the counts of version {answer.version} when asked for those of version {version}")
    return tuple(found)


def _disagreement(profile: Profile, daemon: str, version: int, theirs: FeatureCounts) -> DaemonsDisagreeError:
    ours = next((feature.bins for feature in profile.features if feature.name == theirs.name), None)
    return DaemonsDisagreeError(
        f"{daemon} counts {theirs.name!r} in {_shown(theirs.bins)}, and the profile of version {version} has {_shown(ours)} for it: "
        "nothing was added up; does the daemon serve another registry?"
    )


def _check_alike(profile: Profile, places: Mapping[str, tuple[int, ...]]) -> None:
    for (first, expected), (daemon, found) in pairwise(places.items()):
        if difference := sorted({*expected} ^ {*found}):
            names = ", ".join(repr(profile.features[place].name) for place in difference[:5])
            raise DaemonsDisagreeError(f"of {first} and {daemon} only one counts {names}: nothing was added up")


def _shown(bins: Sequence[str] | None) -> str:
    return "no bins" if bins is None else f"{len(bins)} bins ({', '.join(bins[:3])} ...)"


def _only(profile: Profile, places: Sequence[int]) -> Profile:
    inputs = len(profile.inputs)
    return replace(
        profile,
        inputs=tuple(profile.inputs[place] for place in places if place < inputs),
        predictions=tuple(profile.predictions[place - inputs] for place in places if place >= inputs),
        importance=(),
    )


def _total(answers: Sequence[Drift]) -> list[Counts]:
    observed = [[np.asarray(feature.observed, np.int64) for feature in answer.features] for answer in answers]
    return [np.sum(counts, axis=0) for counts in zip(*observed, strict=True)]


def _said(daemon: str, answer: Drift | TidegateError) -> DaemonRows:
    if isinstance(answer, Drift):
        return DaemonRows(daemon, answer.rows, answer.persistent, None)
    return DaemonRows(daemon, None, (), str(answer))
