"""What is told of the quality of a version: its mature rows judged, all together and day by day, and what the others should be. Pure.

A row is mature when it is old enough for its label to have come; younger ones are not judged, since those whose labels come early are
seldom like the rest.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np

from control_plane.quality import measures
from control_plane.quality.estimate import Calibration, Estimate, estimate, recalibration
from control_plane.quality.join import FOREIGN, NEGATIVE, POSITIVE, JoinedRows
from control_plane.quality.measures import Bin, Figure

_DAY_MILLISECONDS = 86_400_000
_OUTCOMES = (POSITIVE, NEGATIVE)


@dataclass(frozen=True)
class Judgement:
    """Some rows and what they were worth.

    `rows` are mature; of these `labelled` have a label, `coverage` is their share, `judged` have a usable score too, and `positives` of
    those turned out positive. The figures are of the judged rows. `estimate` needs no label: it is of all rows with a score, mature or not.
    """

    rows: int
    immature: int
    labelled: int
    judged: int
    positives: int
    coverage: float | None
    auc: Figure
    log_loss: Figure
    brier: Figure
    accuracy: Figure
    estimate: Estimate


@dataclass(frozen=True)
class Cohort:
    """The rows asked on one day in UTC."""

    day: dt.date
    judgement: Judgement


@dataclass(frozen=True)
class Report:
    """All rows, their calibration, and each day.

    `unscored` mature rows have no probability for a score (NaN, or outside 0 to 1), `foreign` ones a label that is no class of the version;
    `repeated` and `early` as in `JoinedRows`.
    """

    total: Judgement
    bins: tuple[Bin, ...]
    calibration_error: float | None
    cohorts: tuple[Cohort, ...]
    unscored: int
    foreign: int
    repeated: int
    early: int


def report(rows: JoinedRows, mature_before: dt.datetime) -> Report:
    """Judge the rows asked before `mature_before`."""
    mature = rows.asked < mature_before.timestamp() * 1000
    scored = ~np.isnan(rows.score)
    judged = mature & scored & np.isin(rows.outcome, _OUTCOMES)
    scores, positive = rows.score[judged], rows.outcome[judged] == POSITIVE
    calibration = recalibration(scores, positive)
    bins = measures.calibration(scores, positive)
    days, starts = np.unique(rows.asked // _DAY_MILLISECONDS, return_index=True)
    ends = [*starts.tolist(), len(rows.asked)][1:]
    cohorts = (
        Cohort(_day(day), _judgement(rows, mature, calibration, slice(start, end)))
        for day, start, end in zip(days.tolist(), starts.tolist(), ends, strict=True)
    )
    return Report(
        total=_judgement(rows, mature, calibration, slice(None)),
        bins=bins,
        calibration_error=measures.calibration_error(bins),
        cohorts=tuple(cohorts),
        unscored=int(np.sum(mature & ~scored)),
        foreign=int(np.sum(mature & (rows.outcome == FOREIGN))),
        repeated=rows.repeated,
        early=rows.early,
    )


def _judgement(rows: JoinedRows, mature: measures.Outcomes, calibration: Calibration, part: slice) -> Judgement:
    score, outcome, old = rows.score[part], rows.outcome[part], mature[part]
    labelled = old & np.isin(outcome, _OUTCOMES)
    judged = labelled & ~np.isnan(score)
    scores, positive = score[judged], outcome[judged] == POSITIVE
    count = int(old.sum())
    return Judgement(
        rows=count,
        immature=len(old) - count,
        labelled=int(labelled.sum()),
        judged=len(scores),
        positives=int(positive.sum()),
        coverage=float(labelled.sum() / count) if count else None,
        auc=measures.auc(scores, positive),
        log_loss=measures.log_loss(scores, positive),
        brier=measures.brier(scores, positive),
        accuracy=measures.accuracy(scores, positive),
        estimate=estimate(score[~np.isnan(score)], calibration),
    )


def _day(number: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=number)
