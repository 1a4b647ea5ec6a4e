"""The drift alarm on simulated windows: what it says of each, and what two naive rules say. The rows are in `drift_population`.

Every window is judged by `registry.drift.evaluate`, as the daemon judges it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from registry.drift import FeatureDrift, evaluate
from registry.drift_limits import DEFAULT_LIMITS
from registry.profile import Counts, Profile
from tests.load import drift_population
from tests.load.drift_population import COLUMNS, Change

Seen: TypeAlias = NDArray[np.bool_]
"""Verdicts [group, window, feature, rule]."""

GROUP = 10
"""Windows in a row that are compared with one reference; then a new one is drawn."""
PAIR = 2
"""Windows of a group, its first, that every change is tried on."""
NOTHING = "nothing"


class Verdicts(NamedTuple):
    """What the rules say of one feature: drifted by the limits, significant alone, PSI > 0.2, and KS with p < 0.05."""

    drifted: bool
    significant: bool
    psi: bool
    ks: bool


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson, 95 %. Windows of one reference are no independent trials, so take it as a guide where it is narrow."""
        low, high = stats.binomtest(self.hits, self.of).proportion_ci(method="exact")
        return float(low), float(high)


@dataclass(frozen=True)
class Scenario:
    """Windows without drift of `sizes` rows, against references of `reference` rows; `correlation` of every two columns."""

    reference: int
    correlation: float
    sizes: tuple[int, ...] = (500, 5000, 50_000)


@dataclass(frozen=True)
class Outcome:
    """Share of windows of `rows` rows that each rule alarmed at; `twice`: of windows where a feature drifted in the one before, too."""

    scenario: Scenario
    rows: int
    what: str
    drifted: Share
    twice: Share
    significant: Share
    psi: Share
    ks: Share

    @property
    def kept(self) -> bool:
        """Whether the rate of false alarms is at most the one the limits name: the upper end of its interval is."""
        return self.drifted.interval[1] <= DEFAULT_LIMITS.false_discovery_rate


def judge(scenario: Scenario, windows: int, changes: Sequence[Change], generator: np.random.Generator) -> list[Outcome]:
    """Judge `windows` windows of every size in which nothing changed, and a fifth after each of `changes`, by the changed column."""
    groups, rules = -(-windows // GROUP), len(Verdicts._fields)
    quiet = np.zeros((len(scenario.sizes), groups, GROUP, len(COLUMNS), rules), bool)
    changed = np.zeros((len(scenario.sizes), len(changes), groups, PAIR, 1, rules), bool)
    for group in range(groups):
        profile = drift_population.profile(COLUMNS, scenario.reference, scenario.correlation, generator)
        for size, rows in enumerate(scenario.sizes):
            for place in range(GROUP):
                observed = drift_population.window(COLUMNS, profile, rows, scenario.correlation, generator)
                quiet[size, group, place] = [_verdicts(drift) for drift in evaluate(profile, observed)]
                for number, change in enumerate(changes if place < PAIR else ()):
                    changed[size, number, group, place] = _after(change, profile, observed, rows, generator)
    found = [_outcome(scenario, rows, NOTHING, quiet[size]) for size, rows in enumerate(scenario.sizes)]
    for number, change in enumerate(changes):
        found += [_outcome(scenario, rows, change.what, changed[size, number]) for size, rows in enumerate(scenario.sizes)]
    return found


def _after(change: Change, profile: Profile, observed: Sequence[Counts], rows: int, generator: np.random.Generator) -> Verdicts:
    place = [column.name for column in COLUMNS].index(change.column.name)
    counts = drift_population.one(change.column, profile.features[place], rows, generator)
    return _verdicts(evaluate(profile, [*observed[:place], counts, *observed[place + 1 :]])[place])


def _outcome(scenario: Scenario, rows: int, what: str, seen: Seen) -> Outcome:
    drifted, significant, psi, ks = (_share(seen[..., rule]) for rule in range(len(Verdicts._fields)))
    in_window = seen[..., Verdicts._fields.index("drifted")]
    twice = _share(in_window[:, 1:] & in_window[:, :-1])
    return Outcome(scenario, rows, what, drifted, twice, significant, psi, ks)


def _share(said: Seen) -> Share:
    """Of windows for which a rule `said` so of any feature: [group, window, feature]."""
    windows = said.any(axis=-1)
    return Share(int(windows.sum()), windows.size)


def _verdicts(drift: FeatureDrift) -> Verdicts:
    ours, theirs = sum(drift.observed[:-1]), sum(drift.reference[:-1])
    p_ks = 1.0 if drift.ks is None else special.kolmogorov(np.sqrt(ours * theirs / (ours + theirs)) * drift.ks)
    return Verdicts(drift.drifted, drift.p_value < DEFAULT_LIMITS.false_discovery_rate, drift.psi > DEFAULT_LIMITS.psi, p_ks < 0.05)
