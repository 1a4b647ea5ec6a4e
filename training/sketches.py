"""What a column of any length holds, in one pass and bounded memory: sketches that become features of a profile (Apache DataSketches).

Which columns there are and what a model predicts for them is for `drift_profile`. Sketches draw lots: once a column outgrows one, two runs
may differ within its error.
"""

from collections import Counter
from collections.abc import Iterable

import datasketches
import numpy as np
from numpy.typing import NDArray

from registry.profile import CATEGORIES, NUMERIC_BINS, CategoricalFeature, NumericFeature, bin_edges

KLL_K = 4096
"""The count of a bin is off by at most 0.1 % of the values, with 99 % confidence; 50 kB a column. Exact up to 4,096 values."""
LG_CATEGORIES = 15
"""Exact up to 24,576 different values; beyond, a count is at most 0.011 % of the rows too low, and what is rarer than that has no bin."""


class NumericSketch:
    """A column of numbers, float32, NaN is missing: a KLL sketch (Karnin, Lang, Liberty 2016, "Optimal Quantile Approximation")."""

    def __init__(self) -> None:
        self._sketch = datasketches.kll_floats_sketch(KLL_K)
        self._missing = 0

    @property
    def rank_error(self) -> float:
        """By how much of the rows present a bin's count may be off, with 99 % confidence: 0 while the sketch holds every value."""
        return float(self._sketch.normalized_rank_error(as_pmf=True)) if self._sketch.is_estimation_mode() else 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the next values [n]."""
        present = values[~np.isnan(values)]
        self._missing += len(values) - len(present)
        self._sketch.update(np.ascontiguousarray(present))

    def feature(self, name: str) -> NumericFeature:
        """Bins at the quantiles of all values so far, as `numeric_feature` makes them, and the counts of the sketch, which add up."""
        edges = self._edges()
        counts = self._counts(edges) if self._sketch.n else [0] * (len(edges) + 1)
        return NumericFeature(name, tuple(map(float, edges)), (*counts, self._missing))

    def _edges(self) -> NDArray[np.float32]:
        rows = self._sketch.n
        if not rows:
            return np.empty(0, np.float32)
        places = np.floor(np.arange(1, NUMERIC_BINS) / NUMERIC_BINS * (rows - 1))
        # Half a row past the place: rounding in the sketch then never picks the neighbour.
        quantiles = np.asarray(self._sketch.get_quantiles(((places + 0.5) / rows).tolist(), inclusive=True), np.float32)
        return np.asarray(bin_edges(quantiles, np.float32(self._sketch.get_min_value())), np.float32)

    def _counts(self, edges: NDArray[np.float32]) -> list[int]:
        shares = np.asarray(self._sketch.get_cdf(edges.tolist(), inclusive=True)) if len(edges) else np.ones(1)
        # Rounded as ranks, not bin by bin: so the counts add up to the rows.
        ranks = np.rint(shares * self._sketch.n).astype(np.int64)
        counts: list[int] = np.diff(ranks, prepend=0).tolist()
        return counts


class CategorySketch:
    """A column of text, the empty text is missing: a frequent-items sketch (Misra and Gries 1982, as made fast by Anderson et al. 2017)."""

    def __init__(self) -> None:
        self._sketch = datasketches.frequent_strings_sketch(LG_CATEGORIES)
        self._rows = 0
        self._missing = 0

    def add(self, values: Iterable[str]) -> None:
        """Take in the next values."""
        counted = Counter(values)
        self._rows += counted.total()
        self._missing += counted.pop("", 0)
        for value, number in counted.items():
            self._sketch.update(value, number)

    def feature(self, name: str) -> CategoricalFeature:
        """A bin for each of the 50 most frequent values so far, as `categorical_feature` makes them; counts are never too high."""
        found = self._sketch.get_frequent_items(datasketches.frequent_items_error_type.NO_FALSE_POSITIVES)
        ranked = sorted((-low, value) for value, _, low, _ in found)[:CATEGORIES]
        counts = tuple(-low for low, _ in ranked)
        other = self._rows - self._missing - sum(counts)
        return CategoricalFeature(name, tuple(value for _, value in ranked), (*counts, other, self._missing))
