"""Whether two counts in the same bins differ by more than chance: tests of homogeneity, and what many of them say together.

By how much they differ, and whether that matters, is in `drift`. Counts are those of many features at once, observed and reference, int64
[..., bins] of N and M rows; p-values are float64 [...], and 1.0 where there is nothing to compare.
"""

from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from registry.profile import Counts

if TYPE_CHECKING:
    from types import ModuleType

Shares: TypeAlias = NDArray[np.float64]

RARE = 5
"""Rows that a bin would hold without drift, on the smaller side, below which chi2 is no good approximation"""


def p_bins(observed: Counts, reference: Counts) -> tuple[Shares, Shares]:
    """Of two tests: of the bins that hold enough rows, by Pearson's chi2, and of the others together, exactly."""
    rare = _rare(observed, reference)
    return _p_chi2(np.where(rare, 0, observed), np.where(rare, 0, reference)), _p_rare(observed, reference, rare)


def p_distance(distance: Shares, observed: Counts, reference: Counts) -> Shares:
    """Of the Kolmogorov-Smirnov `distance` [...], by Kolmogorov's limit; binning can only lower it, so this errs towards no alarm."""
    return np.asarray(_special().kolmogorov(np.sqrt(effective_rows(observed, reference)) * distance))


def critical_chi2(freedom: int, p: float) -> float:
    """The value that chi2 of `freedom` degrees exceeds with probability `p`."""
    return float(_special().chdtri(freedom, p))


def critical_distance(p: float) -> float:
    """The value that a Kolmogorov-Smirnov distance, times the root of the effective rows, exceeds with probability `p` in the limit."""
    return float(_special().kolmogi(p))


def benjamini_hochberg(p: Shares) -> Shares:
    """Adjusted p-values [n]: rejecting those below a rate keeps the expected share of false rejections below it."""
    order = np.argsort(p)[::-1]
    steps = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps))
    return adjusted


def effective_rows(observed: Counts, reference: Counts) -> Shares:
    """`1 / (1/N + 1/M)`; 0 where there are none."""
    return np.asarray(_rows(observed) / np.maximum(_rows(observed) + _rows(reference), 1.0) * _rows(reference))


def _rare(observed: Counts, reference: Counts) -> NDArray[np.bool_]:
    """Which bins [..., bins] would hold under `RARE` rows of the smaller side if nothing drifted (Cochran 1954)."""
    rows, rows_reference = _rows(observed)[..., np.newaxis], _rows(reference)[..., np.newaxis]
    return np.asarray((observed + reference) * np.minimum(rows, rows_reference) < RARE * (rows + rows_reference))


def _p_chi2(observed: Counts, reference: Counts) -> Shares:
    # Pearson's test of homogeneity. To first order its statistic is PSI / (1/N + 1/M), but it keeps to chi2 where a bin is almost empty.
    total = observed + reference
    squares = (_shares(observed) - _shares(reference)) ** 2 / np.maximum(total, 1)
    freedom = np.count_nonzero(total, axis=-1) - 1
    p = _special().chdtrc(np.maximum(freedom, 1), squares.sum(axis=-1) * _rows(observed) * _rows(reference))
    return np.where(freedom > 0, p, 1.0)


def _p_rare(observed: Counts, reference: Counts, rare: NDArray[np.bool_]) -> Shares:
    # Without drift a row of the rare bins is an observed one as often as any row: binomial, and exact enough for very few of them.
    ours, theirs = np.sum(observed, axis=-1, where=rare), np.sum(reference, axis=-1, where=rare)
    share = _rows(observed) / np.maximum(_rows(observed) + _rows(reference), 1.0)
    as_many, as_few = _special().betainc(ours, theirs + 1, share), _special().betainc(theirs, ours + 1, 1 - share)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(as_many, as_few)))


def _shares(counts: Counts) -> Shares:
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))


def _rows(counts: Counts) -> Shares:
    # As floats: the product of two of them would overflow.
    return np.asarray(counts.sum(axis=-1), np.float64)


def prepare() -> None:
    """Import what verdicts need, which takes as long as all else together: to be called where nobody waits, or the first verdict does."""
    _special()


@cache
def _special() -> "ModuleType":
    # Whoever only counts needs none of it.
    import scipy.special  # noqa: PLC0415

    return scipy.special
