"""The drift of a version over all daemons: their counts, added up and judged once by the version's own profile. Pure.

Counts in the same bins add, verdicts do not: what each daemon thinks of its own share of the traffic is left aside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from control_plane.errors import DaemonsDisagreeError, ParameterError
from registry import drift
from registry.drift import FeatureDrift
from registry.errors import VersionUnknownError
from registry.names import PRODUCTION, STAGING
from registry.profile import Counts, Profile
from registry.state import ModelState
from tidegate_client import Drift, TidegateError, UnavailableError


@dataclass(frozen=True)
class DaemonRows:
    """What one daemon gave: rows, or the reason it gave none."""

    daemon: str
    rows: int | None
    error: str | None


@dataclass(frozen=True)
class FleetDrift:
    """The drift of one version since its daemons loaded it; `rows` are those of the daemons that answered."""

    model: str
    version: int
    rows: int
    daemons: tuple[DaemonRows, ...]
    features: tuple[FeatureDrift, ...]

    @property
    def partial(self) -> bool:
        """Whether a daemon did not answer, and with it rows are missing."""
        return any(daemon.rows is None for daemon in self.daemons)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted)

    @property
    def warned(self) -> tuple[str, ...]:
        """Names of the features worth a look."""
        return tuple(feature.name for feature in self.features if feature.warned)


def wanted(state: ModelState, version: str) -> int:
    """The number of the version that `version` means: a number or a stage, production if it is empty.

    Raises:
        ParameterError: if it is neither.
        VersionUnknownError: if there is no such version.
    """
    if version in {"", PRODUCTION, STAGING}:
        number = state.staging if version == STAGING else state.production
        if number is None:
            raise VersionUnknownError(f"no version of {state.model!r} is in {version or PRODUCTION}")
        return number
    if not (version.isascii() and version.isdigit() and len(version) < 10):  # noqa: PLR2004 -- no log is as long
        raise ParameterError(f"version={version[:40]!r} is no version: write its number, {STAGING} or {PRODUCTION}")
    return state.version(int(version)).number


def together(model: str, version: int, profile: Profile, answers: Mapping[str, Drift | TidegateError]) -> FleetDrift:
    """The counts of all daemons in `answers`, by address, added up and judged.

    Raises:
        TidegateError: if none of them answered.
        DaemonsDisagreeError: if one counts in other bins than those of the profile.
    """
    counted = {daemon: answer for daemon, answer in answers.items() if isinstance(answer, Drift)}
    errors = [answer for answer in answers.values() if isinstance(answer, TidegateError)]
    if not counted:
        # One that is down may have what another does not know: that it cannot be told goes before.
        raise next((error for error in errors if isinstance(error, UnavailableError)), errors[0])
    for daemon, answer in counted.items():
        _check_bins(profile, daemon, version, answer)
    return FleetDrift(
        model=model,
        version=version,
        rows=sum(answer.rows for answer in counted.values()),
        daemons=tuple(_said(daemon, answer) for daemon, answer in answers.items()),
        features=drift.evaluate(profile, _total(list(counted.values()))),
    )


def _check_bins(profile: Profile, daemon: str, version: int, answer: Drift) -> None:
    ours = [(feature.name, feature.bins) for feature in profile.features]
    theirs = [(feature.name, feature.bins) for feature in answer.features]
    if ours == theirs and answer.version == str(version):
        return
    there, here = next((pair for pair in zip_longest(theirs, ours) if pair[0] != pair[1]), (None, None))
    raise DaemonsDisagreeError(
        f"{daemon} does not count in the bins of version {version}, and nothing was added up: it has {_shown(there)} for version "
        f"{answer.version} where the profile has {_shown(here)}; does it serve another registry?"
    )


def _shown(feature: tuple[str, Sequence[str]] | None) -> str:
    if feature is None:
        return "no such feature"
    name, bins = feature
    return f"{len(bins)} bins ({', '.join(bins[:3])} ...) of {name!r}"


def _total(answers: Sequence[Drift]) -> list[Counts]:
    observed = [[np.asarray(feature.observed, np.int64) for feature in answer.features] for answer in answers]
    return [np.sum(counts, axis=0) for counts in zip(*observed, strict=True)]


def _said(daemon: str, answer: Drift | TidegateError) -> DaemonRows:
    return DaemonRows(daemon, answer.rows, None) if isinstance(answer, Drift) else DaemonRows(daemon, None, str(answer))
