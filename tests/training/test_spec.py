"""A spec file says what it means or is refused in one line that helps."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.conftest import EXAMPLE
from training import spec
from training.errors import SpecError


def test_the_example_names_two_candidates_and_keeps_the_protected_attribute_out_of_the_features() -> None:
    example = spec.load(EXAMPLE / "spec.toml")
    assert [candidate.algorithm for candidate in example.candidates] == ["logistic-regression", "gradient-boosting"]
    assert example.fairness is not None
    assert example.fairness.attribute == "afam"
    assert "afam" not in example.data.features


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("numeric =", "numric =", "data: unknown key 'numric': did you mean 'numeric'?"),
        ("[fairness]", "[fairnes]", "unknown key 'fairnes': did you mean 'fairness'?"),
        ("trials = 10", "trails = 10", "candidates.0: unknown key 'trails': did you mean 'trials'?"),
        ("max_depth", "maxdepth", "unknown parameter of gradient-boosting 'maxdepth': did you mean 'max_depth'?"),
        ("high = 100.0", "hihg = 100.0", "candidates.0.search.C: unknown key 'hihg': did you mean 'high'?"),
        ('"gradient-boosting"', '"gradient-bosting"', "candidates.1.algorithm"),
        ("low = 0.01", "low = 1000.0", "low 1000.0 is above high 100.0"),
        ("low = 0.5", "low = 0.0", "subsample must lie between 0.05 and 1"),
        ("low = 30", "low = 30.5", "n_estimators takes whole numbers"),
        ("holdout = 0.3", "holdout = 3", "evaluation.holdout"),
        ('"unemp"]', '"unemp", "afam"]', "the model may not see it"),
        ('"unemp"]', '"unemp", "deny"]', "deny is the outcome"),
        ('"unemp"]', '"unemp", "pirat"]', "pirat named twice"),
        ('"mortgage-denial"', '"Mortgage Denial"', "model.name"),
        ("[model]", "[model", "is not TOML"),
    ],
)
def test_what_makes_no_sense_is_named_in_one_line(spec_file: Callable[..., Path], old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        spec.load(spec_file({old: new}))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_spec_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read the spec file .*none\.toml"):
        spec.load(tmp_path / "none.toml")


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_a_spec_or_a_spec_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "spec.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(SpecError):
        spec.load(path)


def test_trials_and_seed_can_be_replaced_within_the_same_limits() -> None:
    example = spec.load(EXAMPLE / "spec.toml")
    changed = example.replaced(trials=3, seed=7)
    assert {candidate.trials for candidate in changed.candidates} == {3}
    assert changed.evaluation.seed == 7
    assert example.replaced(trials=None, seed=None) == example
    with pytest.raises(SpecError, match="trials"):
        example.replaced(trials=0, seed=None)
