"""Figures equal those of the field's libraries, their intervals hold what they promise, and what is not defined is None with a reason."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from control_plane.quality import measures
from control_plane.quality.measures import Outcomes, Scores

SEED = 11


def cases() -> st.SearchStrategy[tuple[Scores, Outcomes]]:
    """Scores with many ties, as float32 gives them, and outcomes of both classes."""
    rows = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=2, max_size=60)
    return rows.filter(lambda made: len({outcome for _, outcome in made}) == 2).map(
        lambda made: (np.array([score for score, _ in made]), np.array([outcome for _, outcome in made]))
    )


def sample(rows: int, seed: int = SEED) -> tuple[Scores, Outcomes]:
    """Calibrated scores and what became true."""
    random = np.random.default_rng(seed)
    scores = random.beta(2, 3, rows)
    return scores, random.random(rows) < scores


@given(cases())
def test_figures_equal_scikit_learns(case: tuple[Scores, Outcomes]) -> None:
    scores, positive = case
    assert measures.auc(scores, positive).value == pytest.approx(roc_auc_score(positive, scores))
    assert measures.log_loss(scores, positive).value == pytest.approx(
        log_loss(positive, scores.astype(np.float32), labels=[False, True]), rel=1e-5
    )
    assert measures.brier(scores, positive).value == pytest.approx(brier_score_loss(positive, scores))
    assert measures.accuracy(scores, positive).value == pytest.approx(accuracy_score(positive, scores > 0.5))


@given(cases())
def test_the_variance_of_auc_is_delongs(case: tuple[Scores, Outcomes]) -> None:
    scores, positive = case
    first, second = scores[positive], scores[~positive]
    if min(len(first), len(second)) < 2:
        return
    wins = (first[:, None] > second) + 0.5 * (first[:, None] == second)  # as the paper has it, pair by pair
    variance = wins.mean(1).var(ddof=1) / len(first) + wins.mean(0).var(ddof=1) / len(second)
    found = measures.auc(scores, positive)
    assert found.value is not None
    assert found.low is not None
    assert found.low == pytest.approx(max(0, found.value - 1.959963984540054 * variance**0.5), abs=1e-9)


def test_the_interval_of_auc_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(SEED)
    truth = 0.7602499389065233  # of normal scores one standard deviation apart: Phi(1 / sqrt 2)
    hits = 0
    for _ in range(400):
        positive = np.arange(300) < 90
        found = measures.auc(random.normal(size=300) + positive, positive)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert binomtest(hits, 400, measures.LEVEL).pvalue > 0.001, f"{hits} of 400"


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_of_a_share_is_wilsons(count: int, more: int) -> None:
    rows = count + more
    expected = binomtest(count, rows).proportion_ci(measures.LEVEL, method="wilson")
    found = measures.share(count, rows)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_what_is_not_defined_is_none_with_a_reason_never_zero() -> None:
    nothing, one = np.empty(0), np.array([0.3])
    for measure in (measures.auc, measures.log_loss, measures.brier, measures.accuracy):
        found = measure(nothing, nothing.astype(bool))
        assert (found.value, found.low, found.high) == (None, None, None)
        assert found.reason
    for outcome, word in ((True, "positive"), (False, "negative")):
        found = measures.auc(np.array([0.2, 0.8]), np.array([outcome, outcome]))
        assert found.value is None
        assert f"every label is {word}" in found.reason
    assert measures.log_loss(one, np.array([True])).reason == "one row is too few for an interval"
    two = measures.auc(np.array([0.1, 0.9]), np.array([False, True]))
    assert (two.value, two.low) == (1.0, None)
    assert "too few" in two.reason
    assert measures.calibration(nothing, nothing.astype(bool)) == ()
    assert measures.calibration_error(()) is None


def test_a_certain_score_that_was_wrong_costs_much_and_not_everything() -> None:
    found = measures.log_loss(np.array([0.0, 1.0]), np.array([True, False]))
    assert found.value == pytest.approx(-np.log(np.finfo(np.float32).eps))


def test_bins_hold_equally_many_rows_and_all_of_them() -> None:
    scores, positive = sample(5000)
    bins = measures.calibration(scores, positive)
    assert [one.rows for one in bins] == pytest.approx([500] * 10, abs=1)
    assert sum(one.rows for one in bins) == 5000
    assert bins[0].low == scores.min()
    assert bins[-1].high == scores.max()
    assert all(one.low <= one.mean_score <= one.high for one in bins)
    within = [one.share.low <= one.mean_score <= one.share.high for one in bins if one.share.low is not None and one.share.high is not None]
    assert sum(within) >= 8  # of ten intervals of 95 %


def test_equal_scores_stay_in_one_bin() -> None:
    scores = np.array([0.2] * 70 + [0.9] * 30)
    bins = measures.calibration(scores, np.arange(100) % 2 == 0)
    assert [one.rows for one in bins] == [70, 30]
    assert [one.mean_score for one in bins] == pytest.approx([0.2, 0.9])
    (only,) = measures.calibration(np.full(5, 0.5), np.array([True] * 5))
    assert (only.low, only.high, only.rows, only.share.value) == (0.5, 0.5, 5, 1.0)


@given(cases())
def test_bins_part_all_rows_whatever_the_ties(case: tuple[Scores, Outcomes]) -> None:
    scores, positive = case
    bins = measures.calibration(scores, positive)
    assert sum(one.rows for one in bins) == len(scores)
    assert all(before.high <= after.low for before, after in pairwise(bins))
    total = sum(one.rows * (one.share.value or 0) for one in bins)
    assert total == pytest.approx(positive.sum())


def test_calibrated_scores_have_a_small_error_and_sharpened_ones_a_large_one() -> None:
    scores, positive = sample(20_000)
    assert (measures.calibration_error(measures.calibration(scores, positive)) or 1) < 0.02
    sharp = scores**3 / (scores**3 + (1 - scores) ** 3)
    assert (measures.calibration_error(measures.calibration(sharp, positive)) or 0) > 0.08
