"""How good scores were, given what turned out to be true, and how sure we may be. Pure arrays.

Every interval holds with `LEVEL` confidence. A figure that is not defined is None with a reason, never 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

LEVEL = 0.95
BINS = 10
SMALLEST = float(np.finfo(np.float32).eps)
"""Scores are float32: one that is 1 there may be anything above 1 - SMALLEST / 2, whose logarithm must not be infinite."""
_Z = float(norm.ppf(0.5 + LEVEL / 2))

Scores = NDArray[np.float64]
Outcomes = NDArray[np.bool_]


@dataclass(frozen=True)
class Figure:
    """A value and its interval, each None where it is not defined; `reason` says why."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Bin:
    """The rows whose scores are above `low` (at it, in the first bin) and up to `high`: what they promised, and what became true."""

    low: float
    high: float
    rows: int
    mean_score: float
    share: Figure
    """positives among them"""


NO_ROWS = Figure(reason="no row has a label and a score")


def auc(scores: Scores, positive: Outcomes) -> Figure:
    """Area under the ROC curve: how often a positive row scores higher than another, ties counting half.

    Its interval is DeLong's (E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44, 1988), by the midranks of X. Sun and W. Xu
    (IEEE Signal Processing Letters 21, 2014). It has no width where the classes do not overlap.
    """
    first, second = scores[positive], scores[~positive]
    if not len(scores):
        return NO_ROWS
    if not len(first) or not len(second):
        return Figure(reason=f"every label is {'positive' if len(first) else 'negative'}: AUC needs both")
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(first)) / len(second)
    below = 1 - (ranks[~positive] - rankdata(second)) / len(first)
    value = float(above.mean())
    if min(len(first), len(second)) == 1:
        return Figure(value, reason="one row of a class is too few for an interval")
    return _normal(value, float(above.var(ddof=1) / len(first) + below.var(ddof=1) / len(second)), 1.0)


def log_loss(scores: Scores, positive: Outcomes) -> Figure:
    """Mean of -ln P(what became true), in nats, with the normal interval of a mean."""
    clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return _mean(-np.log(np.where(positive, clipped, 1 - clipped)), np.inf)


def brier(scores: Scores, positive: Outcomes) -> Figure:
    """Mean of (score - outcome)^2, with the normal interval of a mean."""
    return _mean((scores - positive) ** 2, 1.0)


def accuracy(scores: Scores, positive: Outcomes) -> Figure:
    """Share of the rows on the right side of 0.5, with Wilson's interval."""
    return share(int(np.sum((scores > 0.5) == positive)), len(scores)) if len(scores) else NO_ROWS  # noqa: PLR2004 -- what says yes


def share(count: int, rows: int) -> Figure:
    """`count` of `rows`, with the interval of E. B. Wilson (Journal of the American Statistical Association 22, 1927)."""
    if not rows:
        return Figure(reason="no rows")
    value = count / rows
    scale = 1 + _Z**2 / rows
    centre = (value + _Z**2 / (2 * rows)) / scale
    half = _Z / scale * np.sqrt(value * (1 - value) / rows + _Z**2 / (4 * rows**2))
    return Figure(value, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def calibration(scores: Scores, positive: Outcomes) -> tuple[Bin, ...]:
    """At most BINS bins of equally many rows; equal scores stay together, so that there may be fewer."""
    if not len(scores):
        return ()
    upper = np.unique(np.quantile(scores, np.arange(1, BINS + 1) / BINS, method="inverted_cdf"))
    edges = np.concatenate(([scores.min()], upper))
    places = np.searchsorted(upper, scores)
    return tuple(_bin(edges, place, scores[places == place], positive[places == place]) for place in range(len(upper)))


def calibration_error(bins: tuple[Bin, ...]) -> float | None:
    """Expected calibration error: |share of positives - mean score| over the bins, weighted by their rows; None without any."""
    rows = sum(one.rows for one in bins)
    return sum(one.rows * abs((one.share.value or 0.0) - one.mean_score) for one in bins) / rows if rows else None


def _bin(edges: Scores, place: int, scores: Scores, positive: Outcomes) -> Bin:
    found = share(int(positive.sum()), len(scores))
    return Bin(float(edges[place]), float(edges[place + 1]), len(scores), float(scores.mean()), found)


def _mean(values: Scores, highest: float) -> Figure:
    if not len(values):
        return NO_ROWS
    if len(values) == 1:
        return Figure(float(values[0]), reason="one row is too few for an interval")
    return _normal(float(values.mean()), float(values.var(ddof=1) / len(values)), highest)


def _normal(value: float, variance: float, highest: float) -> Figure:
    half = _Z * float(np.sqrt(variance))
    return Figure(value, max(0.0, value - half), min(highest, value + half))
