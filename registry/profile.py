"""The drift reference of a version: frozen bins per feature and how many training rows fell into each.

Builds a profile, sorts observed values into its bins, reads and writes `profile.json`. What the counts mean (PSI, KS) is in `drift`; who
counts, and when, is the daemon's business. Counts in the same bins add: over batches, replicas and time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry import canonical
from registry.canonical import Json, JsonObject
from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.fields import integer, items, reading, record, text, unknown

FORMAT = "tidegate.profile/1"
_FIELDS = ("format", "rows", "inputs", "predictions", "importance", "limits")
NUMERIC_BINS = 20
CATEGORIES = 50
SCORE = "score"
"""The prediction that is the probability of the positive class"""
CLASS = "class"
"""The prediction that is the most probable class"""
OTHER = "other"
MISSING = "missing"

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class NumericFeature:
    """Bins between quantiles of the reference.

    Bin i holds `edges[i-1] < x <= edges[i]` (outer edges are +-inf), compared as float32; NaN goes to the last bin, `missing`.
    `reference` counts the reference rows, one entry per bin.
    """

    name: str
    edges: tuple[float, ...]
    reference: tuple[int, ...]

    @cached_property
    def bins(self) -> tuple[str, ...]:
        """The name of every bin: its upper edge, then `missing`."""
        return (*(f"{edge:.9g}" for edge in self.edges), "inf", MISSING)

    def count(self, values: NDArray[np.float32]) -> Counts:
        """How many of `values` [n], float32, fall into each bin: int64 [len(bins)]."""
        missing = np.isnan(values)
        # "left" makes the upper edge inclusive: x == edges[i] lands in bin i.
        places = np.searchsorted(np.asarray(self.edges, np.float32), values[~missing], side="left")
        counts = np.bincount(places, minlength=len(self.edges) + 2).astype(np.int64)
        counts[-1] = np.count_nonzero(missing)
        return counts


@dataclass(frozen=True)
class CategoricalFeature:
    """One bin per frequent value of the reference, then `other` and `missing` (the empty text)."""

    name: str
    values: tuple[str, ...]
    reference: tuple[int, ...]

    @cached_property
    def bins(self) -> tuple[str, ...]:
        """The name of every bin; a value is prefixed by `=`, so that none is taken for `other` or `missing`."""
        return (*(f"={value}" for value in self.values), OTHER, MISSING)

    def count(self, values: NDArray[np.object_]) -> Counts:
        """How many of `values` [n], text, fall into each bin: int64 [len(bins)]."""
        # Not np.unique: it would copy the column at the width of its longest text, which a caller may have made a megabyte long.
        return self.place(Counter(values.tolist()))

    def place(self, counted: Mapping[str, int]) -> Counts:
        """The same for values that were counted already: how often each text occurred."""
        counts = np.zeros(len(self.values) + 2, np.int64)
        places = {value: place for place, value in enumerate(self.values)}
        places[""] = len(self.values) + 1
        for value, number in counted.items():
            counts[places.get(value, len(self.values))] += number
        return counts


Feature: TypeAlias = NumericFeature | CategoricalFeature


@dataclass(frozen=True)
class Profile:
    """The reference of one version: `rows` training rows, the input features, and the predictions (`score`, `class`) made for them.

    `importance` is 0 or more for each of `inputs`, or empty where nobody measured it; `limits` are those its drift is judged by.
    """

    rows: int
    inputs: tuple[Feature, ...]
    predictions: tuple[Feature, ...]
    importance: tuple[float, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    unknown: JsonObject = field(default_factory=dict, hash=False)
    """fields a later release added"""

    @property
    def features(self) -> tuple[Feature, ...]:
        """Inputs, then predictions."""
        return (*self.inputs, *self.predictions)

    def encode(self) -> bytes:
        """Canonical bytes of `profile.json`; `parse(profile.encode()) == profile`."""
        return canonical.encode(
            {
                **self.unknown,
                "format": FORMAT,
                "rows": self.rows,
                "inputs": [_feature_json(feature) for feature in self.inputs],
                "predictions": [_feature_json(feature) for feature in self.predictions],
                **({"importance": list(self.importance)} if self.importance else {}),
                **({"limits": self.limits.to_json()} if self.limits != DEFAULT_LIMITS else {}),
            }
        )


def numeric_feature(name: str, values: NDArray[np.floating] | Sequence[float]) -> NumericFeature:
    """Bin the reference `values` [n] at the quantiles 1/20 .. 19/20 of those present; edges that coincide are one edge."""
    column = np.asarray(values, np.float32)
    present = column[~np.isnan(column)]
    shares = np.arange(1, NUMERIC_BINS) / NUMERIC_BINS
    # "lower" picks values of the data itself, so that an edge is a float32 that really occurs and ties stay on one side.
    edges = bin_edges(np.quantile(present, shares, method="lower"), present.min()) if present.size else ()
    feature = NumericFeature(name, edges, ())
    return NumericFeature(name, feature.edges, tuple(feature.count(column).tolist()))


def bin_edges(quantiles: NDArray[np.float32], lowest: np.float32) -> tuple[float, ...]:
    """Edges of a numeric feature from `quantiles` [n] of its reference and its `lowest` value: each once, infinities left out.

    Where the first edge is the lowest value and others coincided, as in a constant column, one more edge goes right below it: a
    smaller value has never been seen, and must not hide among the many at the edge.
    """
    edges = np.unique(quantiles)
    if edges[0] == lowest and len(edges) < len(quantiles):
        with np.errstate(over="ignore"):  # below the smallest number is minus infinity, which is no edge
            edges = np.insert(edges, 0, np.nextafter(edges[0], -np.float32(np.inf)))
    return tuple(edges[np.isfinite(edges)].tolist())


def categorical_feature(name: str, values: Sequence[str]) -> CategoricalFeature:
    """Give a bin to each of the 50 most frequent reference `values` [n] (ties by name); the empty text is missing."""
    column = np.asarray([str(value) for value in values], dtype=object)
    ranked = sorted((-number, value) for value, number in Counter(column.tolist()).items() if value)
    feature = CategoricalFeature(name, tuple(value for _, value in ranked[:CATEGORIES]), ())
    return CategoricalFeature(name, feature.values, tuple(feature.count(column).tolist()))


def parse(raw: bytes) -> Profile:
    """Read `profile.json`.

    Raises:
        FormatError: if it is not a profile of a format this release knows.
    """
    value = canonical.expect_format(canonical.decode(raw, "profile.json"), FORMAT, "profile.json")
    with reading("profile.json"):
        inputs = _features(value, "inputs")
        limits = Limits.from_json(record(value, "limits")) if "limits" in value else DEFAULT_LIMITS
        predictions = _features(value, "predictions")
        return Profile(integer(value, "rows", 0), inputs, predictions, _importance(value, inputs), limits, unknown(value, _FIELDS))


def _importance(value: JsonObject, inputs: tuple[Feature, ...]) -> tuple[float, ...]:
    found = items(value, "importance", float) if "importance" in value else ()
    if found and (len(found) != len(inputs) or not all(0 <= share < float("inf") for share in found)):
        raise ValueError("importance is not a number of 0 or more for each input")
    return found


def _feature_json(feature: Feature) -> JsonObject:
    common: dict[str, Json] = {"name": feature.name, "reference": list(feature.reference)}
    if isinstance(feature, NumericFeature):
        return {**common, "kind": "numeric", "edges": list(feature.edges)}
    return {**common, "kind": "categorical", "values": list(feature.values)}


def _features(value: JsonObject, key: str) -> tuple[Feature, ...]:
    return tuple(_feature(item) for item in items(value, key, dict))


def _feature(value: JsonObject) -> Feature:
    name, kind, reference = text(value, "name"), text(value, "kind"), items(value, "reference", int)
    feature: Feature
    if kind == "numeric":
        feature = NumericFeature(name, items(value, "edges", float), reference)
        if any(low >= high for low, high in pairwise(feature.edges)):
            raise ValueError(f"the edges of {name!r} do not ascend")
    elif kind == "categorical":
        feature = CategoricalFeature(name, items(value, "values", str), reference)
        if len(set(feature.values)) != len(feature.values) or "" in feature.values:
            raise ValueError(f"a value of {name!r} is empty or appears twice")
    else:
        raise ValueError(f"{name!r} is of kind {kind!r}, not numeric or categorical")
    if len(reference) != len(feature.bins) or min(reference) < 0:
        raise ValueError(f"the counts of {name!r} do not match its bins")
    return feature
