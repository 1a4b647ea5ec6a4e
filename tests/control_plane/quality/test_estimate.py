"""The estimate without labels is right where the scores mean what they say, and wrong in the one way its page tells of."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from control_plane.quality.estimate import NO_CALIBRATION, estimate, recalibration
from control_plane.quality.measures import Scores

SEED = 5


def truth(inputs: Scores) -> Scores:
    """What is true of the inputs: the probability of the positive class."""
    return 1 / (1 + np.exp(-2 * inputs))


def draw(random: np.random.Generator, inputs: Scores) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.asarray(random.random(len(inputs)) < truth(inputs))


def test_every_outcome_of_few_rows_weighted_by_its_chance_gives_the_same() -> None:
    scores = np.array([0.2, 0.5, 0.5, 0.9])
    ordered = pairs = right = 0.0
    for code in range(16):
        positive = np.array([bool(code >> bit & 1) for bit in range(4)])
        chance = float(np.prod(np.where(positive, scores, 1 - scores)))
        right += chance * float(np.mean((scores > 0.5) == positive))
        for one in scores[positive]:
            for other in scores[~positive]:
                pairs += chance
                ordered += chance * (1.0 if one > other else 0.5 if one == other else 0.0)
    found = estimate(scores, NO_CALIBRATION)
    assert found.auc == pytest.approx(ordered / pairs)
    assert found.accuracy == pytest.approx(right)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (0.0, 0.4), (1.0, 1.0), (-0.5, 2.0)])
def test_it_follows_the_truth_when_only_the_inputs_move(mean: float, spread: float) -> None:
    random = np.random.default_rng(SEED)
    inputs = random.normal(mean, spread, 40_000)
    positive = draw(random, inputs)
    found = estimate(truth(inputs), NO_CALIBRATION)
    assert found.auc == pytest.approx(roc_auc_score(positive, inputs), abs=0.01)
    assert found.accuracy == pytest.approx(np.mean((inputs > 0) == positive), abs=0.01)


def test_scores_that_claim_too_much_are_recalibrated_by_labelled_rows() -> None:
    random = np.random.default_rng(SEED)
    inputs, later = random.normal(size=5000), random.normal(0, 0.5, 40_000)
    sharp, sharp_later = truth(3 * inputs), truth(3 * later)
    real = roc_auc_score(draw(random, later), later)
    calibration = recalibration(sharp, draw(random, inputs))
    assert calibration.rows == 5000
    assert estimate(sharp_later, calibration).auc == pytest.approx(real, abs=0.02)
    taken_at_their_word = estimate(sharp_later, NO_CALIBRATION).auc
    assert taken_at_their_word is not None
    assert taken_at_their_word > real + 0.1


def test_recalibrating_barely_flatters_the_rows_it_was_made_of() -> None:
    excess = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        inputs = random.normal(size=1000)
        positive = draw(random, inputs)
        found = estimate(truth(inputs), recalibration(truth(inputs), positive)).auc
        assert found is not None
        excess.append(found - roc_auc_score(positive, inputs))
    assert abs(np.mean(excess)) < 0.01, excess


def test_it_cannot_see_that_the_same_inputs_have_come_to_mean_something_else() -> None:
    random = np.random.default_rng(SEED)
    before, after = random.normal(size=20_000), random.normal(size=20_000)
    calibration = recalibration(truth(before), draw(random, before))
    turned = draw(random, 0.2 * after)
    found = estimate(truth(after), calibration).auc
    assert found == pytest.approx(roc_auc_score(draw(random, before), before), abs=0.02)
    assert found is not None
    assert found > roc_auc_score(turned, after) + 0.2


def test_too_few_labelled_rows_leave_the_scores_as_they_are() -> None:
    random = np.random.default_rng(SEED)
    scores = random.random(2000)
    for rows, positives in ((999, 500), (2000, 99), (2000, 1901)):
        assert recalibration(scores[:rows], np.arange(rows) < positives) == NO_CALIBRATION
    assert NO_CALIBRATION.of(scores) is scores
    assert recalibration(scores, np.arange(2000) < 1000).rows == 2000


def test_where_nothing_can_be_said_nothing_is() -> None:
    nobody, certain = estimate(np.empty(0), NO_CALIBRATION), estimate(np.array([1.0, 1.0]), NO_CALIBRATION)
    assert (nobody.rows, nobody.auc, nobody.accuracy) == (0, None, None)
    assert (certain.auc, certain.accuracy) == (None, 1.0)
