"""A spec file says what it means or is refused in one line that helps."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.drift_limits import DEFAULT_LIMITS, Limits, Window
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
        ('"unemp"]', '"unemp", "score"]', "a feature cannot be called 'score'"),
        ('"mortgage-denial"', '"Mortgage Denial"', "model.name"),
        ("[model]", "[model", "is not TOML"),
        ("[fairness]", "[drift]\npsi = 0.05\n\n[fairness]", "drift: drift limits: 0 < psi_warn <= psi"),
        ("[fairness]", "[drift]\npsi = inf\n\n[fairness]", "drift.psi"),
        ("[fairness]", "[drift]\nks = 1.5\n\n[fairness]", "0 < ks <= 1"),
        ("[fairness]", '[drift]\nwindows = ["1 day"]\n\n[fairness]', "'1 day' is no window: write 1h"),
        ("[fairness]", '[drift]\nwindows = ["60m", "1h"]\n\n[fairness]', "each window stands once"),
        ("[fairness]", "[drift]\nmin_row = 5\n\n[fairness]", "drift: unknown key 'min_row': did you mean 'min_rows'?"),
        ('"hmda.csv"', '"hmda.csv"\nuntil = 2013-04-01', "data: since and until need time"),
        ('"hmda.csv"', '"hmda.csv"\ntime = "t"\nsince = 2013-04-01\nuntil = 2013-04-01T00:00:00Z', "no row would be left"),
        ('"hmda.csv"', '"hmda.csv"\ntime = "t"\nuntil = "soon"', "data.until"),
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


def test_limits_of_drift_come_from_the_spec_or_are_the_defaults(spec_file: Callable[..., Path]) -> None:
    assert spec.load(EXAMPLE / "spec.toml").drift.limits() == DEFAULT_LIMITS
    table = '[drift]\npsi = 0.3\nconsecutive = 1\nwindows = ["24h", "500rows"]\n\n[fairness]'
    limits = spec.load(spec_file({"[fairness]": table})).drift.limits()
    assert limits == Limits(psi=0.3, consecutive=1, windows=(Window(seconds=86_400), Window(rows=500)))


def test_a_time_without_an_offset_is_utc(spec_file: Callable[..., Path]) -> None:
    times = ("2013-04-01", "2013-04-01T00:00:00", "2013-04-01T02:00:00+02:00", '"2013-04-01T00:00:00Z"')
    loaded = [spec.load(spec_file({'"hmda.csv"': f'"hmda.csv"\ntime = "t"\nuntil = {time}'})).data.until for time in times]
    assert loaded == [datetime(2013, 4, 1, tzinfo=UTC)] * len(times)
