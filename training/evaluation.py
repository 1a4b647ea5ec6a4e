"""How good the scores of the held-out rows are, and how sure we may be: metrics with percentile bootstrap intervals.

Pure arrays; knows no model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from registry import canonical
from registry.canonical import JsonObject

FORMAT = "tidegate.evaluation/1"
LEVEL = 0.95
_SMALLEST = 1e-7  # float32 probabilities near 0 or 1: keeps the logarithm finite


@dataclass(frozen=True)
class Metric:
    """A figure and the interval that holds it with `LEVEL` confidence."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GroupRate:
    """How many of a group's rows got the favourable decision."""

    group: str
    rows: int
    approved: int

    @property
    def rate(self) -> float:
        """The approval rate."""
        return self.approved / self.rows


@dataclass(frozen=True)
class Evaluation:
    """What the held-out rows say.

    `threshold` applies to P(positive); `metrics` are auc, log_loss, brier and accuracy; `groups` is empty without a protected attribute.
    """

    rows: int
    positives: int
    threshold: float
    resamples: int
    seed: int
    metrics: tuple[Metric, ...]
    groups: tuple[GroupRate, ...]

    def metric(self, name: str) -> Metric:
        """The metric of this name; KeyError if there is none."""
        return {metric.name: metric for metric in self.metrics}[name]

    def encode(self) -> bytes:
        """Canonical bytes of `evaluation.json`."""
        return canonical.encode({"format": FORMAT, **self.as_json()})

    def as_json(self) -> JsonObject:
        """The content of `evaluation.json` but for its format."""
        return {
            "rows": self.rows,
            "positives": self.positives,
            "threshold": self.threshold,
            "interval": {"method": "percentile bootstrap", "level": LEVEL, "resamples": self.resamples, "seed": self.seed},
            "metrics": {metric.name: {"value": metric.value, "low": metric.low, "high": metric.high} for metric in self.metrics},
            "groups": [{"group": group.group, "rows": group.rows, "approved": group.approved, "rate": group.rate} for group in self.groups],
        }


def evaluate(
    outcome: NDArray[np.int64],
    score: NDArray[np.floating],
    *,
    threshold: float,
    resamples: int,
    seed: int,
    approved: NDArray[np.bool_] | None = None,
    groups: NDArray[np.object_] | None = None,
) -> Evaluation:
    """Judge P(positive) `score` [n] against `outcome` [n] (1 is positive); `approved` and `groups` [n] give the approval rates."""
    exact = score.astype(np.float64)
    bounded = np.clip(exact, _SMALLEST, 1 - _SMALLEST)
    # These three are means of one loss per row: resampling them is resampling the losses.
    losses = {
        "log_loss": -np.where(outcome == 1, np.log(bounded), np.log1p(-bounded)),
        "brier": (exact - outcome) ** 2,
        "accuracy": ((exact >= threshold) == (outcome == 1)).astype(np.float64),
    }
    values = {"auc": auc(outcome, exact)} | {name: float(loss.mean()) for name, loss in losses.items()}
    drawn = _resample(outcome, exact, losses, resamples, np.random.default_rng(seed))
    tail = (1 - LEVEL) / 2
    metrics = tuple(Metric(name, value, *map(float, np.nanquantile(drawn[name], (tail, 1 - tail)))) for name, value in values.items())
    rates = () if approved is None or groups is None else _rates(approved, groups)
    return Evaluation(len(outcome), int(outcome.sum()), threshold, resamples, seed, metrics, rates)


def auc(outcome: NDArray[np.int64], score: NDArray[np.floating]) -> float:
    """The share of pairs of a positive and a negative row that `score` [n] puts in order, ties by half; NaN if a class is absent.

    Mann and Whitney's U: ten times as fast as a ROC curve, which a bootstrap would draw hundreds of times.
    """
    positives = int(outcome.sum())
    pairs = positives * (len(outcome) - positives)
    if pairs == 0:
        return float("nan")
    return float((rankdata(score)[outcome == 1].sum() - positives * (positives + 1) / 2) / pairs)


def _resample(
    outcome: NDArray[np.int64], score: NDArray[np.float64], losses: dict[str, NDArray[np.float64]], resamples: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    drawn = {name: np.empty(resamples) for name in ("auc", *losses)}
    for number in range(resamples):
        places = rng.integers(len(outcome), size=len(outcome))
        for name, loss in losses.items():
            drawn[name][number] = loss[places].mean()
        drawn["auc"][number] = auc(outcome[places], score[places])
    return drawn


def _rates(approved: NDArray[np.bool_], groups: NDArray[np.object_]) -> tuple[GroupRate, ...]:
    names = sorted({str(group) for group in groups} - {""})
    return tuple(GroupRate(name, int((groups == name).sum()), int(approved[groups == name].sum())) for name in names)
