"""Drift arithmetic agrees with scipy, is defined for every count, and alarms when it should."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from registry.drift import FeatureDrift, divergence, evaluate, ks, merged, psi
from registry.drift_limits import Limits
from registry.errors import FormatError
from registry.profile import CategoricalFeature, Counts, Feature, NumericFeature, Profile, categorical_feature, numeric_feature
from registry.significance import benjamini_hochberg
from tests.registry.strategies import profiles

REFERENCE_ROWS = 2000


def counts_of(bins: int) -> st.SearchStrategy[Counts]:
    return st.lists(st.integers(0, 10**7), min_size=bins, max_size=bins).map(lambda values: np.asarray(values, np.int64))


def few_of(bins: int) -> st.SearchStrategy[Counts]:
    return st.lists(st.integers(0, 20), min_size=bins, max_size=bins).map(lambda values: np.asarray(values, np.int64))


pairs = st.integers(2, 21).flatmap(lambda bins: st.tuples(counts_of(bins), counts_of(bins)))


def normal_profile(generator: np.random.Generator, features: int = 20) -> Profile:
    return Profile(REFERENCE_ROWS, tuple(numeric_feature(f"x{i}", generator.normal(size=REFERENCE_ROWS)) for i in range(features)), ())


def observe(profile: Profile, columns: list[NDArray[np.float64]]) -> list[Counts]:
    return [feature.count(np.asarray(column, np.float32)) for feature, column in zip(profile.features, columns, strict=True)]


def test_the_index_of_two_halves_and_six_to_four_is_the_textbook_value() -> None:
    assert divergence(np.asarray([0.5, 0.5]), np.asarray([0.6, 0.4])) == pytest.approx(0.04054651081081642, abs=1e-16)


@given(pairs)
def test_the_index_is_the_symmetric_entropy_of_the_smoothed_counts(pair: tuple[Counts, Counts]) -> None:
    observed, reference = pair
    if not observed.sum() or not reference.sum():
        assert psi(observed, reference) == 0.0
        return
    p, q = reference + 0.5, observed + 0.5
    assert psi(observed, reference) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-9, abs=1e-12)
    assert psi(observed, reference) == pytest.approx(psi(reference, observed), rel=1e-9, abs=1e-12)
    assert psi(reference, reference) == pytest.approx(0, abs=1e-15)


@pytest.mark.filterwarnings("ignore:divide by zero")  # from scipy's p-value, which is not asked for
@given(pairs)
def test_the_distance_is_the_kolmogorov_smirnov_statistic_of_the_binned_values(pair: tuple[Counts, Counts]) -> None:
    observed, reference = (counts // 10**5 for counts in pair)  # few enough to write every value down
    ours, theirs = (np.repeat(np.arange(len(counts) - 1), counts[:-1]) for counts in (observed, reference))
    if not len(ours) or not len(theirs):
        assert ks(observed, reference) == 0.0
        return
    assert ks(observed, reference) == pytest.approx(stats.ks_2samp(ours, theirs, method="asymp").statistic, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 3.0])
def test_the_distance_at_the_edges_is_below_the_exact_one_by_at_most_a_bin(shift: float) -> None:
    generator = np.random.default_rng(1)
    reference, values = generator.normal(size=5000), generator.normal(shift, size=3000)
    feature = numeric_feature("x", reference)
    exact = stats.ks_2samp(values, reference).statistic
    binned = ks(feature.count(values.astype(np.float32)), np.asarray(feature.reference))
    share = max(feature.reference) / sum(feature.reference)
    assert exact - share - 1e-3 <= binned <= exact + 1e-3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(np.asarray(p)) == pytest.approx(stats.false_discovery_control(p))


@given(st.integers(1, 20), st.data())
def test_merging_keeps_order_rows_and_missing_and_leaves_at_most_ten_bins(values: int, data: st.DataObject) -> None:
    counts = data.draw(counts_of(values + 1))
    feature = NumericFeature("x", tuple(map(float, range(values - 1))), tuple(counts.tolist()))
    fewer = merged(feature, counts)
    assert len(fewer) == min(values, 10) + 1
    assert (fewer.sum(), fewer[-1]) == (counts.sum(), counts[-1])
    assert set(np.cumsum(fewer)) <= set(np.cumsum(counts))


def test_twenty_bins_merge_in_pairs_and_categories_stay() -> None:
    counts = np.arange(21)
    assert merged(NumericFeature("x", tuple(map(float, range(19))), ()), counts).tolist() == [*range(1, 40, 4), 20]
    assert merged(CategoricalFeature("c", tuple(map(str, range(19))), ()), counts) is counts


@given(profiles(), st.data())
def test_every_count_has_a_verdict_without_nan(profile: Profile, data: st.DataObject) -> None:
    observed = [data.draw(counts_of(len(feature.bins))) for feature in profile.features]
    drifts = evaluate(profile, observed)
    assert [drift.name for drift in drifts] == [feature.name for feature in profile.features]
    for drift, counts in zip(drifts, observed, strict=True):
        assert drift.observed == tuple(counts.tolist())
        assert drift.rows == counts.sum()
        assert drift.psi >= 0
        assert 0 <= drift.p_value <= 1
        assert (drift.ks is None) == (drift.kind == "categorical")
        assert drift.ks is None or 0 <= drift.ks <= 1
        assert not drift.drifted or drift.rows >= profile.limits.min_rows


def judged(feature: Feature, counts: Counts) -> tuple[Counts, Counts]:
    """Observed and reference counts in the bins that are judged, by the definitions."""
    ours, theirs = merged(feature, counts).copy(), merged(feature, np.asarray(feature.reference)).copy()
    for place in range(len(ours) - 2 if isinstance(feature, CategoricalFeature) else 0):
        if theirs[place] < 10:
            for side in (ours, theirs):
                side[-2], side[place] = side[-2] + side[place], 0
    return ours, theirs


def plain_p_value(feature: Feature, counts: Counts) -> float:
    """What `evaluate` says of a feature before it adjusts, by scipy and by the definitions, one after the other."""
    reference = np.asarray(feature.reference)
    if not counts.sum() or not reference.sum():
        return 1.0
    ours, theirs = judged(feature, counts)
    expected = (ours + theirs) * (min(ours.sum(), theirs.sum()) / (ours.sum() + theirs.sum()))
    rare = expected < 5
    found = [1.0]
    if np.count_nonzero(~rare) > 1 and ours[~rare].any() and theirs[~rare].any():
        found = [stats.chi2_contingency(np.stack([ours, theirs])[:, ~rare], correction=False).pvalue]
    many, rows = int(ours[rare].sum()), int((ours + theirs)[rare].sum())
    tails = stats.binom(rows, ours.sum() / (ours.sum() + theirs.sum()))
    found.append(2 * min(tails.sf(many - 1), tails.cdf(many)))
    if isinstance(feature, NumericFeature):
        values, values_reference = counts[:-1].sum(), reference[:-1].sum()
        rows = values and values_reference and 1 / (1 / values + 1 / values_reference)
        found.append(stats.kstwobign.sf(np.sqrt(rows) * ks(counts, reference)))
    return min(1.0, len(found) * min(found))


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(), st.data())
def test_all_features_at_once_give_what_each_gives_by_itself(profile: Profile, data: st.DataObject) -> None:
    observed = [data.draw(counts_of(len(feature.bins)) | few_of(len(feature.bins))) for feature in profile.features]
    drifts = evaluate(profile, observed)
    for drift, feature, counts in zip(drifts, profile.features, observed, strict=True):
        index = excess = 0.0
        if counts.any() and any(feature.reference):
            p, q = merged(feature, np.asarray(feature.reference)) + 0.5, merged(feature, counts) + 0.5
            index = stats.entropy(p, q) + stats.entropy(q, p)
            ours, theirs = judged(feature, counts)
            p, q = (side[ours + theirs > 0] + 0.5 for side in (theirs, ours))
            excess = stats.entropy(p, q) + stats.entropy(q, p) - (len(p) - 1) * (1 / ours.sum() + 1 / theirs.sum())
        assert drift.psi == pytest.approx(index, rel=1e-9, abs=1e-12)
        assert drift.excess == pytest.approx(max(0, excess), rel=1e-9, abs=1e-12)
    p_values = [plain_p_value(*case) for case in zip(profile.features, observed, strict=True)]
    adjusted: list[float] = list(stats.false_discovery_control(p_values)) if p_values else []
    assert [drift.p_value for drift in drifts] == pytest.approx(adjusted, rel=1e-5, abs=1e-12)


def test_no_rows_are_no_drift() -> None:
    profile = normal_profile(np.random.default_rng(2), 3)
    for drift in evaluate(profile, [np.zeros(len(feature.bins), np.int64) for feature in profile.features]):
        assert (drift.rows, drift.psi, drift.ks, drift.p_value, drift.drifted, drift.warned) == (0, 0.0, 0.0, 1.0, False, False)


def test_without_reference_rows_there_is_nothing_to_compare_with() -> None:
    profile = Profile(0, (numeric_feature("x", []), categorical_feature("c", [])), ())
    for drift in evaluate(profile, [np.asarray([900, 100]), np.asarray([900, 100])]):
        assert (drift.rows, drift.psi, drift.excess, drift.p_value, drift.drifted, drift.warned) == (1000, 0.0, 0.0, 1.0, False, False)


def verdict(feature: Feature, observed: Sequence[float] | Sequence[str]) -> FeatureDrift:
    values = np.asarray(observed, np.float32 if isinstance(feature, NumericFeature) else object)
    (drift,) = evaluate(Profile(sum(feature.reference), (feature,), ()), [feature.count(values)])
    return drift


@pytest.mark.parametrize("rows", [100, 2000, 100_000])
def test_a_constant_feature_drifts_as_soon_as_it_is_something_else(rows: int) -> None:
    number, text = numeric_feature("x", [3.0] * rows), categorical_feature("c", ["a"] * rows)
    assert not verdict(number, [3.0] * 600).drifted
    assert not verdict(text, ["a"] * 600).drifted
    for other in (2.0, 4.0, np.inf, -np.inf, np.nan):
        assert verdict(number, [other] * 600).drifted, other
        assert verdict(number, [3.0] * 500 + [other] * 100).drifted, other
    for new in ("b", ""):
        assert verdict(text, [new] * 600).drifted, new
        assert verdict(text, ["a"] * 500 + [new] * 100).drifted, new


def test_values_that_become_infinite_are_drift() -> None:
    feature = numeric_feature("x", np.random.default_rng(9).normal(size=2000))
    values = np.random.default_rng(10).normal(size=800).tolist()
    for infinite in (np.inf, -np.inf):
        assert verdict(feature, [*values, *[infinite] * 200]).drifted
    assert not verdict(feature, values).drifted


def test_a_feature_that_was_always_missing_drifts_when_it_comes_and_not_before() -> None:
    feature = numeric_feature("x", [np.nan] * 2000)
    assert not verdict(feature, [np.nan] * 600).drifted
    assert verdict(feature, [1.0] * 600).drifted
    assert verdict(feature, [1.0] * 100 + [np.nan] * 500).drifted


def test_counts_of_any_size_are_judged_by_their_shares() -> None:
    huge = 1 << 53
    reference = (huge, huge, huge // 2, 0)
    for feature in (NumericFeature("x", (0.0, 1.0), reference), CategoricalFeature("c", ("a", "b"), reference)):
        profile = Profile(0, (feature,), ())
        (same,) = evaluate(profile, [np.asarray(reference)])
        assert (round(same.psi, 12), same.drifted, same.p_value) == (0.0, False, 1.0)
        for counts in ([huge // 2, huge, huge, 0], [100, 200, 200, 0], [huge, huge, huge // 2, huge]):
            (other,) = evaluate(profile, [np.asarray(counts)])
            assert other.drifted, counts
            assert other.p_value < 1e-6, counts


def test_rare_values_that_a_small_window_does_not_hold_are_no_drift_and_no_standing_warning() -> None:
    generator = np.random.default_rng(11)
    shares = np.asarray([0.9995, *[1e-5] * 50])
    names = np.asarray([f"v{place}" for place in range(51)], dtype=object)
    feature = CategoricalFeature("c", tuple(names[:50]), (*generator.multinomial(1_000_000, shares).tolist(), 0))
    drifts = [verdict(feature, generator.choice(names, 500, p=shares).tolist()) for _ in range(50)]
    assert min(drift.psi for drift in drifts) > 0.15  # by smoothing alone
    assert not any(drift.drifted for drift in drifts)
    assert sum(drift.warned for drift in drifts) <= 6  # what a p-value under 0.05 gives by chance


@pytest.mark.parametrize("rows", [200, 500, 2000])
def test_values_that_have_a_bin_by_luck_alone_are_no_drift(rows: int) -> None:
    generator = np.random.default_rng(rows)
    for values in (60, 10_000):
        names = np.asarray([f"v{place}" for place in range(values)], dtype=object)
        for _ in range(30):
            feature = categorical_feature("c", generator.choice(names, rows).tolist())
            assert not verdict(feature, generator.choice(names, 5000).tolist()).drifted


def test_an_identifier_that_is_another_one_in_every_row_is_no_drift() -> None:
    texts = categorical_feature("id", [f"id{place}" for place in range(300)])
    assert not verdict(texts, [f"id{place}" for place in range(300, 5000)]).drifted
    assert verdict(texts, ["always the same"] * 250 + [""] * 250).drifted


def test_without_a_feature_there_is_nothing_to_say() -> None:
    assert evaluate(Profile(0, (), ()), []) == ()


def test_a_shift_of_half_a_deviation_is_found_from_500_rows_on_and_nothing_else_is() -> None:
    generator = np.random.default_rng(3)
    for rows in (500, 5000):
        alarms = 0
        for _ in range(40):
            profile = normal_profile(generator)
            columns = [generator.normal(0.5 if i == 0 else 0, size=rows) for i in range(20)]
            first, *others = evaluate(profile, observe(profile, columns))
            assert first.drifted, rows
            alarms += any(drift.drifted for drift in others)
        assert alarms <= 2, rows


def test_fewer_rows_than_the_limit_are_never_called_drift() -> None:
    profile = normal_profile(np.random.default_rng(4), 1)
    far = [np.full(499, 9.0)]
    (drift,) = evaluate(profile, observe(profile, far))
    assert (drift.drifted, drift.p_value < 1e-9, drift.psi > 1) == (False, True, True)
    (drift,) = evaluate(replace(profile, limits=Limits(min_rows=499)), observe(profile, far))
    assert drift.drifted
    assert drift.limits.min_rows == 499


def test_a_significant_difference_too_small_to_matter_is_not_drift() -> None:
    generator = np.random.default_rng(5)
    profile = Profile(1, (numeric_feature("x", generator.normal(size=200_000)),), ())
    (drift,) = evaluate(profile, observe(profile, [generator.normal(0.05, size=200_000)]))
    assert drift.p_value < 1e-9
    assert not drift.drifted
    (drift,) = evaluate(replace(profile, limits=Limits(ks=0.01)), [np.asarray(drift.observed)])
    assert drift.drifted


def test_a_change_under_the_limit_is_a_warning_if_it_is_worth_a_look_and_no_chance() -> None:
    generator = np.random.default_rng(12)
    feature = categorical_feature("c", generator.choice(["a", "b"], 5000).tolist())
    for share, rows, warned in ((0.5, 5000, False), (0.55, 5000, False), (0.67, 5000, True), (0.67, 499, False)):
        drift = verdict(feature, generator.choice(["a", "b"], rows, p=[share, 1 - share]).tolist())
        assert (drift.warned, drift.drifted) == (warned, False), (share, rows)
    few = categorical_feature("c", ["a"] * 12 + ["b"] * 12)
    assert not verdict(few, ["a"] * 402 + ["b"] * 198).warned  # the same change, against too few rows to tell


def test_values_that_go_missing_are_drift_even_where_those_left_are_as_before() -> None:
    generator = np.random.default_rng(6)
    profile = normal_profile(generator, 1)
    column = generator.normal(size=5000)
    column[generator.random(5000) < 0.3] = np.nan
    (drift,) = evaluate(profile, observe(profile, [column]))
    assert drift.drifted
    assert drift.ks is not None
    assert drift.ks < Limits().ks


def test_a_category_that_appears_or_grows_is_drift() -> None:
    generator = np.random.default_rng(7)
    profile = Profile(REFERENCE_ROWS, (categorical_feature("c", generator.choice(["a", "b", "c"], REFERENCE_ROWS).tolist()),), ())
    feature = profile.features[0]
    for values in (["a"] * 800 + ["b"] * 200, ["new"] * 300 + ["a", "b", "c"] * 300):
        (drift,) = evaluate(profile, [feature.count(np.asarray(values, dtype=object))])
        assert drift.drifted
        assert drift.ks is None


def test_five_hundred_features_are_judged_in_milliseconds() -> None:
    generator = np.random.default_rng(13)
    texts = [categorical_feature(f"c{place}", generator.integers(2 + place % 60, size=500).astype(str).tolist()) for place in range(100)]
    profile = Profile(2000, (*normal_profile(generator, 400).inputs, *texts), ())
    observed = [np.asarray(feature.reference) for feature in profile.features]
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        evaluate(profile, observed)
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.03  # about 0.006; one feature after the other took 0.05


def test_counts_of_another_version_are_refused() -> None:
    profile = normal_profile(np.random.default_rng(8), 2)
    for observed in ([], [np.zeros(21, np.int64)], [np.zeros(21, np.int64), np.zeros(5, np.int64)]):
        with pytest.raises(FormatError, match="do not fit the bins"):
            evaluate(profile, observed)
