"""What is told of a version: only rows old enough are judged, day by day, and the others are estimated."""

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from control_plane.errors import ParameterError
from control_plane.quality import assess
from control_plane.quality.assess import parse_age, span
from control_plane.quality.join import FOREIGN, NEGATIVE, POSITIVE, UNLABELLED, JoinedRows
from control_plane.quality.report import report
from tests.control_plane.quality.conftest import DAY, NOON

SEED = 3


def rows(asked: Iterable[dt.datetime], score: Any, outcome: Any) -> JoinedRows:
    milliseconds = [int(at.timestamp() * 1000) for at in asked]
    return JoinedRows(np.array(milliseconds, np.int64), np.array(score, np.float64), np.array(outcome, np.int8))


def test_young_rows_are_estimated_and_not_judged_even_if_their_labels_came() -> None:
    found = report(rows([NOON, NOON, NOON + DAY], [0.25, 0.75, 0.5], [NEGATIVE, POSITIVE, POSITIVE]), NOON + DAY)
    total = found.total
    assert (total.rows, total.immature, total.labelled, total.judged, total.positives, total.coverage) == (2, 1, 2, 2, 1, 1.0)
    assert total.auc.value == 1
    assert total.estimate.rows == 3
    old, young = found.cohorts
    assert (old.day, young.day) == (NOON.date(), NOON.date() + DAY)
    assert (young.judgement.rows, young.judgement.immature, young.judgement.coverage) == (0, 1, None)
    assert young.judgement.auc.value is None
    assert young.judgement.estimate.accuracy == pytest.approx(0.5)


def test_each_day_has_its_own_figures() -> None:
    random = np.random.default_rng(SEED)
    days = random.integers(0, 5, 5000)
    days.sort()
    score = random.random(5000)
    positive = random.random(5000) < np.where(days < 3, score, 0.5)
    known = random.random(5000) < 0.7
    outcome = np.where(known, np.where(positive, POSITIVE, NEGATIVE), UNLABELLED)
    found = report(rows([NOON + int(day) * DAY for day in days], score, outcome), NOON + 9 * DAY)
    assert [cohort.day for cohort in found.cohorts] == [(NOON + day * DAY).date() for day in range(5)]
    for day, cohort in enumerate(found.cohorts):
        mine = known & (days == day)
        assert cohort.judgement.rows == int(np.sum(days == day))
        assert cohort.judgement.coverage == pytest.approx(float(known[days == day].mean()))
        assert cohort.judgement.auc.value == pytest.approx(roc_auc_score(positive[mine], score[mine]))
    assert found.total.auc.value == pytest.approx(roc_auc_score(positive[known], score[known]))
    assert found.total.estimate.recalibrated_by == int(known.sum())
    assert sum(one.rows for one in found.bins) == found.total.judged == int(known.sum())


def test_rows_without_a_usable_score_or_with_a_foreign_label_are_counted_and_left_out() -> None:
    found = report(rows([NOON] * 5, [np.nan, np.nan, 0.5, 0.25, 0.75], [POSITIVE, UNLABELLED, FOREIGN, NEGATIVE, POSITIVE]), NOON + DAY)
    assert (found.unscored, found.foreign) == (2, 1)
    assert (found.total.rows, found.total.labelled, found.total.judged, found.total.coverage) == (5, 3, 2, 0.6)
    assert found.total.estimate.rows == 3


def test_no_rows_and_no_labels_are_no_figures() -> None:
    nothing = report(rows([], [], []), NOON)
    assert (nothing.total.rows, nothing.total.coverage, nothing.cohorts, nothing.bins) == (0, None, (), ())
    assert (nothing.total.auc.value, nothing.total.estimate.auc, nothing.calibration_error) == (None, None, None)
    unlabelled = report(rows([NOON] * 3, [0.2, 0.5, 0.9], [UNLABELLED] * 3), NOON + DAY)
    assert (unlabelled.total.coverage, unlabelled.total.auc.value) == (0.0, None)
    assert unlabelled.total.auc.reason == "no row has a label and a score"
    assert unlabelled.total.estimate.auc is not None


def test_rows_of_the_future_are_not_mature() -> None:
    found = report(rows([NOON + 400 * DAY], [0.5], [POSITIVE]), NOON)
    assert (found.total.rows, found.total.immature) == (0, 1)


def test_calibrated_uniform_scores_are_worth_what_the_integral_says() -> None:
    random = np.random.default_rng(SEED)
    asked = np.sort(random.integers(0, 30 * 86_400_000, 200_000)) + int(NOON.timestamp() * 1000)
    score = random.random(200_000)
    made = JoinedRows(asked, score, (random.random(200_000) < score).astype(np.int8))
    total = report(made, NOON + 40 * DAY).total
    assert total.auc.value == pytest.approx(5 / 6, abs=0.003)
    assert total.estimate.auc == pytest.approx(5 / 6, abs=0.003)
    assert total.log_loss.value == pytest.approx(0.5, abs=0.005)
    assert total.brier.value == pytest.approx(1 / 6, abs=0.003)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("0s", 0)])
def test_ages_are_read(text: str, seconds: int) -> None:
    assert parse_age(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1w", "1.5h", "1 d", "٣d", "9999999d"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="7d"):
        parse_age(text)


def test_thirty_days_are_asked_for_unless_said_otherwise() -> None:
    assert span(NOON, DAY).start == NOON - assess.DEFAULT_SPAN
    assert span(NOON, DAY).mature_before == NOON - DAY
    assert span(NOON, DAY, end=NOON - DAY).start == NOON - DAY - assess.DEFAULT_SPAN
    assert span(NOON, DAY, start=NOON - 90 * DAY).end > NOON
    with pytest.raises(ParameterError, match="holds nothing"):
        span(NOON, DAY, start=NOON, end=NOON)
