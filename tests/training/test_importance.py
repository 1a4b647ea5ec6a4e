"""The importance of an input is what shuffling it costs: nothing for noise, the same for the same seed, at a bounded price."""

import numpy as np
import pytest
from numpy.typing import NDArray

from registry import bundle, profile
from tests.training.conftest import Run
from training.dataset import Inputs, Rows
from training.importance import MAX_ROWS, importance


def rows(count: int, positives: float = 0.4) -> Rows:
    """Two numbers, of which the first decides, a constant, and two texts, of which the second decides a little."""
    rng = np.random.default_rng(count)
    outcome = (rng.random(count) < positives).astype(np.int64)
    numeric = np.column_stack([outcome + rng.normal(size=count), rng.normal(size=count), np.full(count, 7.0)]).astype(np.float32)
    texts = np.column_stack([rng.choice(["a", "b"], count), np.where(rng.random(count) < 0.6, outcome, 1 - outcome).astype(str)])
    return Rows(numeric, texts.astype(object), outcome, np.full(count, "", object))


def score(inputs: Inputs) -> NDArray[np.float32]:
    found: NDArray[np.float32] = inputs.numeric[:, 0] + (inputs.categorical[:, 1] == "1").astype(np.float32)
    return found


def test_inputs_are_ordered_by_what_the_score_makes_of_them() -> None:
    decides, noise, constant, letter, hint = importance(score, rows(5000), seed=1)
    assert decides > hint > 0.01
    assert noise == constant == letter == 0


@pytest.mark.parametrize("positives", [0.5, 0.01, 0.99])
def test_however_many_rows_there_are_a_bounded_number_of_both_classes_is_scored(positives: float) -> None:
    seen: list[int] = []

    def counting(inputs: Inputs) -> NDArray[np.float32]:
        seen.append(len(inputs))
        return score(inputs)

    found = importance(counting, rows(50_000, positives), seed=1)
    assert set(seen) == {MAX_ROWS}
    assert found[0] > 0.1


def test_the_same_seed_gives_the_same_importance_and_a_score_that_is_upside_down_gives_none_below_zero() -> None:
    data = rows(300)
    assert importance(score, data, seed=3) == importance(score, data, seed=3) != importance(score, data, seed=4)
    assert importance(lambda inputs: -score(inputs), data, seed=3)[0] == 0


def test_the_profile_of_a_trained_version_says_how_much_each_input_matters(run: Run) -> None:
    for version in (1, 2):
        found = profile.parse(run.registry.read("mortgage-denial", version, bundle.PROFILE))
        weights = dict(zip((feature.name for feature in found.inputs), found.importance, strict=True))
        assert min(weights.values()) >= 0
        assert max(weights, key=lambda name: weights[name]) in {"pirat", "chist", "phist", "insurance"}
