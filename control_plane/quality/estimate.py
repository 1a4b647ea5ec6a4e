"""What the quality should be if the scores mean what they say: an estimate for rows that have no labels yet. Pure arrays.

Confidence-based performance estimation: a row of score s counts as a positive one with weight p(s) and as another with 1 - p(s), where p is
s, or s recalibrated by rows that have labels. (NannyML has it under this name; S. Garg and others, "Leveraging unlabeled data to predict
out-of-distribution performance", ICLR 2022, say when such estimates can work at all.) It sees that inputs moved to where the model is less
sure. It cannot see that the same inputs have come to mean something else: p is then wrong, and so is the estimate.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from control_plane.quality.measures import Outcomes, Scores

ENOUGH_ROWS, ENOUGH_OF_EACH = 1000, 100
"""Labelled rows, and labelled rows of each outcome, from which scores are recalibrated."""


@dataclass(frozen=True)
class Calibration:
    """The probability of each score: linear between `scores`, which ascend. Without any, a score is its own probability."""

    scores: Scores
    probabilities: Scores
    rows: int
    """labelled rows it was made from"""

    def of(self, scores: Scores) -> Scores:
        """The probability of the positive class at each score."""
        return np.interp(scores, self.scores, self.probabilities) if len(self.scores) else scores


NO_CALIBRATION = Calibration(np.empty(0), np.empty(0), 0)


@dataclass(frozen=True)
class Estimate:
    """AUC, and accuracy at 0.5, as they should be; None where nothing can be said. `recalibrated_by`: labelled rows used, 0 for none."""

    rows: int
    auc: float | None
    accuracy: float | None
    recalibrated_by: int


def recalibration(scores: Scores, positive: Outcomes) -> Calibration:
    """The non-decreasing probabilities that fit the outcomes best (isotonic regression), or none if there are too few."""
    count = int(positive.sum())
    if len(scores) < ENOUGH_ROWS or min(count, len(scores) - count) < ENOUGH_OF_EACH:
        return NO_CALIBRATION
    distinct, places, weights = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(places, positive) / weights
    return Calibration(distinct, isotonic_regression(means, weights=weights).x, len(scores))


def estimate(scores: Scores, calibration: Calibration) -> Estimate:
    """What AUC and accuracy of these rows should be.

    AUC is the expected number of pairs in order over that of all pairs of a positive and another row; a row is no pair with itself.
    """
    probabilities = calibration.of(scores)
    if not len(scores):
        return Estimate(0, None, None, calibration.rows)
    _, places = np.unique(scores, return_inverse=True)
    positives, others = np.bincount(places, probabilities), np.bincount(places, 1 - probabilities)
    itself = float(np.sum(probabilities * (1 - probabilities)))
    pairs = float(positives.sum() * others.sum()) - itself
    ordered = float(np.sum(positives * (np.cumsum(others) - others / 2))) - itself / 2
    right = np.where(scores > 0.5, probabilities, 1 - probabilities)  # noqa: PLR2004 -- what says yes
    return Estimate(len(scores), ordered / pairs if pairs > 0 else None, float(right.mean()), calibration.rows)
