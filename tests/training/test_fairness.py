"""AIF360's figures are the formulas, written out by hand."""

import numpy as np
import pytest

from training.fairness import Fairness, assess


def _assess(protected: list[str], deserved: list[bool], decided: list[bool]) -> Fairness:
    return assess(
        np.array(protected, object),
        np.array(deserved, bool),
        np.array(decided, bool),
        attribute="group",
        privileged="p",
        favourable="good",
        threshold=0.5,
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_agree_with_the_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    protected = rng.choice(np.array(["p", "u"], object), 400, p=[0.7, 0.3])
    deserved = rng.random(400) < 0.8
    decided = rng.random(400) < np.where(protected == "p", 0.9, 0.6)
    found = _assess(protected.tolist(), deserved.tolist(), decided.tolist())
    unprivileged, privileged = protected == "u", protected == "p"
    shares = decided[unprivileged].mean(), decided[privileged].mean()
    assert found.disparate_impact == pytest.approx(shares[0] / shares[1])
    assert found.statistical_parity_difference == pytest.approx(shares[0] - shares[1])
    granted = decided[unprivileged & deserved].mean() - decided[privileged & deserved].mean()
    assert found.equal_opportunity_difference == pytest.approx(granted)


def test_the_counts_of_each_group_are_reported_and_rows_without_a_value_are_left_out() -> None:
    found = _assess(["p", "p", "u", "u", "v", ""], [True, False, True, True, True, True], [True, True, True, False, False, True])
    counts = {group.value: (group.privileged, group.rows, group.favourable, group.deserving, group.granted) for group in found.groups}
    assert counts == {"p": (True, 2, 2, 1, 1), "u": (False, 2, 1, 2, 1), "v": (False, 1, 0, 1, 0)}
    assert found.unknown == 1
    assert found.disparate_impact == pytest.approx(1 / 3)


def test_a_figure_that_does_not_exist_is_none_and_can_be_written() -> None:
    found = _assess(["p", "p", "p"], [True, False, True], [True, True, True])
    assert found.disparate_impact is None
    assert b'"disparate_impact":null' in found.encode()
