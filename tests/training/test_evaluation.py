"""Metrics are what their definitions say, and intervals hold what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from training.evaluation import Evaluation, evaluate

OUTCOME = np.array([0, 0, 1, 1, 0, 1])
SCORE = np.array([0.1, 0.4, 0.35, 0.8, 0.2, 0.9])


def _evaluate(
    outcome: np.ndarray[tuple[int], np.dtype[np.int64]], score: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int = 1
) -> Evaluation:
    return evaluate(outcome, score, threshold=0.3, resamples=200, seed=seed)


def test_metrics_agree_with_scikit_learn_and_with_counting_by_hand() -> None:
    found = _evaluate(OUTCOME, SCORE)
    assert found.metric("auc").value == pytest.approx(8 / 9)
    assert found.metric("log_loss").value == pytest.approx(log_loss(OUTCOME, SCORE))
    assert found.metric("brier").value == pytest.approx(brier_score_loss(OUTCOME, SCORE))
    assert found.metric("accuracy").value == 5 / 6


def test_approval_rates_count_each_known_group() -> None:
    groups = np.array(["a", "a", "b", "b", "b", ""], object)
    found = evaluate(OUTCOME, SCORE, threshold=0.3, resamples=20, seed=1, approved=SCORE < 0.3, groups=groups)
    assert [(rate.group, rate.rows, rate.approved, rate.rate) for rate in found.groups] == [("a", 2, 1, 0.5), ("b", 3, 1, 1 / 3)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_auc_is_that_of_scikit_learn_and_intervals_are_the_same_for_the_same_seed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcome = np.r_[0, 1, rng.integers(0, 2, 60)]
    score = np.round(np.clip(rng.normal(0.4 + 0.2 * outcome, 0.2), 0, 1), 1)  # many ties
    found = _evaluate(outcome, score, seed)
    assert found == _evaluate(outcome, score, seed)
    assert found.metric("auc").value == pytest.approx(roc_auc_score(outcome, score))
    for metric in found.metrics:
        assert metric.low <= metric.high
        assert math.isfinite(metric.value)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(3)
    outcome = rng.integers(0, 2, 2000)
    score = np.where(rng.random(2000) < 0.8, outcome, 1 - outcome).astype(float)
    accuracy = evaluate(outcome, score, threshold=0.5, resamples=1000, seed=3).metric("accuracy")
    expected = 2 * 1.96 * math.sqrt(accuracy.value * (1 - accuracy.value) / 2000)
    assert accuracy.high - accuracy.low == pytest.approx(expected, rel=0.1)
