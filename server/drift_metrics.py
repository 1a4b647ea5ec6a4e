"""The metrics of drift: the counts of production traffic in the bins of the profiles, and what the windows say of them.

A version of 500 features has some 20,000 bins and edges. So the text of a version is made once, as a template that only lacks the numbers;
and of the features only the most important ones are shown (`--drift-features`), but all are judged.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from registry.drift_shown import chosen
from registry.drift_tally import Tally, starts
from registry.drift_windows import Span
from registry.profile import NumericFeature, Profile
from server.counts import PRODUCTION, Counters, DriftCounts, VersionKey
from server.exposition import Family, prefix

ALL = "all"
"""The window of every row since this daemon first loaded the version"""
_BIN, _EDGE, _ROWS = "tidegate_drift_bin_total", "tidegate_drift_edge_total", "tidegate_drift_rows_total"
_PSI, _KS, _DETECTED = "tidegate_drift_psi", "tidegate_drift_ks", "tidegate_drift_detected"
_VARYING = {_PSI: {"window": "%s"}, _KS: {"window": "%s"}}
_OMITTED, _UNCOUNTED = "tidegate_drift_features_omitted", "tidegate_drift_features_uncounted"


class DriftExposition:
    """Writes the families anew at each scrape; what costs is remembered from one to the next."""

    def __init__(self, counters: Callable[[], Counters], features: int) -> None:
        """Of each version at most `features` inputs are shown."""
        self._counters = counters
        self._most = features
        self._shown: dict[VersionKey, _Shown] = {}

    def families(self) -> Iterator[Family]:
        """See `Exposition.families`."""
        drift = self._counters().drift
        # A new dict in the place of the old: two scrapes may run at once.
        self._shown = shown = {key: self._described(key, counts) for key, counts in drift.items()}
        spans = [(shown[key], label, span) for key, counts in drift.items() for label, span in _spans(counts)]
        totals = [(shown[key], counts.arms[PRODUCTION]) for key, counts in drift.items()]
        tallies = [(version, windows.everything.tally) for version, windows in totals]
        yield Family(_BIN, "counter", "Observed values by bin of the profile", "".join(version.bins(tally) for version, tally in tallies))
        edges = "".join(version.edges(tally) for version, tally in tallies)
        yield Family(_EDGE, "counter", "Observed values at or under an edge of the profile", edges)
        rows = "".join(version.line(_ROWS, tally.rows) for version, tally in tallies)
        yield Family(_ROWS, "counter", "Production rows observed", rows)
        yield Family(_PSI, "gauge", "Population stability index", "".join(version.psi(label, span) for version, label, span in spans))
        yield Family(_KS, "gauge", "Kolmogorov-Smirnov distance", "".join(version.ks(label, span) for version, label, span in spans))
        detected = "".join(version.line(_DETECTED, int(windows.persistent().any())) for version, windows in totals)
        yield Family(_DETECTED, "gauge", "Whether any feature has drifted in enough windows in a row", detected)
        omitted = "".join(version.line(_OMITTED, version.omitted) for version, _ in totals)
        yield Family(_OMITTED, "gauge", "Inputs of the profile that are counted and judged, and not shown here", omitted)
        uncounted = "".join(version.line(_UNCOUNTED, len(version.uncounted)) for version, _ in totals)
        yield Family(_UNCOUNTED, "gauge", "Features of the profile that cannot be counted in the tensors of the version", uncounted)

    def _described(self, key: VersionKey, counts: DriftCounts) -> "_Shown":
        known = self._shown.get(key)
        if known is not None and known.profile is counts.profile and known.uncounted == counts.uncounted:
            return known
        return _Shown(key, counts.profile, counts.uncounted, self._most)


@dataclass(frozen=True, eq=False)
class _Shown:
    """What is shown of one version: its lines with `%s` in the place of what changes. They are made when first needed."""

    key: VersionKey
    profile: Profile
    uncounted: frozenset[str]
    most: int

    @property
    def omitted(self) -> int:
        """Inputs that are not shown."""
        return max(0, len(self.profile.inputs) - self.most)

    def line(self, name: str, value: float) -> str:
        """One sample of the version itself."""
        return f"{prefix(name, **self._labels)}{value}\n"

    def bins(self, tally: Tally) -> str:
        """A sample for each bin."""
        template, places = self._bins
        return template % tuple(tally.counts[places].tolist())

    def edges(self, tally: Tally) -> str:
        """A sample for each edge: what fell into its bin and into those before it."""
        template, lasts, firsts = self._edges
        before = np.concatenate(([0], tally.counts.cumsum()))
        return template % tuple((before[lasts + 1] - before[firsts]).tolist())

    def psi(self, window: str, span: Span) -> str:
        """A sample for each feature."""
        return self._psi % tuple(each for place in self._places for each in (window, span.features[place].psi))

    def ks(self, window: str, span: Span) -> str:
        """A sample for each numeric feature."""
        return self._ks % tuple(each for place in self._numeric for each in (window, span.features[place].ks))

    @cached_property
    def _labels(self) -> dict[str, str]:
        return {"model": self.key[0], "version": str(self.key[1])}

    @cached_property
    def _places(self) -> list[int]:
        return [place for place in chosen(self.profile, self.most) if self.profile.features[place].name not in self.uncounted]

    @cached_property
    def _numeric(self) -> list[int]:
        return [place for place in self._places if isinstance(self.profile.features[place], NumericFeature)]

    @cached_property
    def _bins(self) -> tuple[str, NDArray[np.intp]]:
        first = starts(self.profile)
        bins = [(place, number, name) for place in self._places for number, name in enumerate(self.profile.features[place].bins)]
        lines = [self._template(_BIN, place, bin=name) for place, _, name in bins]
        return "".join(lines), np.array([first[place] + number for place, number, _ in bins], np.intp)

    @cached_property
    def _edges(self) -> tuple[str, NDArray[np.intp], NDArray[np.intp]]:
        first = starts(self.profile)
        edges = [(place, number, name) for place in self._numeric for number, name in enumerate(self.profile.features[place].bins[:-1])]
        lines = [self._template(_EDGE, place, edge=name) for place, _, name in edges]
        firsts = np.array([first[place] for place, _, _ in edges], np.intp)
        return "".join(lines), firsts + np.array([number for _, number, _ in edges], np.intp), firsts

    @cached_property
    def _psi(self) -> str:
        return "".join(self._template(_PSI, place) for place in self._places)

    @cached_property
    def _ks(self) -> str:
        return "".join(self._template(_KS, place) for place in self._numeric)

    def _template(self, name: str, place: int, **label: str) -> str:
        labels = {**self._labels, "feature": self.profile.features[place].name, **label}
        return prefix(name, **{label: value.replace("%", "%%") for label, value in labels.items()}, **_VARYING.get(name, {})) + "%s\n"


def _spans(counts: DriftCounts) -> Iterator[tuple[str, Span]]:
    """By their labels, the spans that there is something to say of: no rows have no distance from anything."""
    windows = counts.arms[PRODUCTION]
    spans = [(ALL, windows.everything), *((str(opened.window), opened.last) for opened in windows.windows)]
    yield from ((label, span) for label, span in spans if span is not None and span.tally.rows)
