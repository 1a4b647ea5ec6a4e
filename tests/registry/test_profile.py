"""The bins of a profile: every value falls into exactly one, the same one everywhere, and counts add."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.profile import (
    CATEGORIES,
    MISSING,
    NUMERIC_BINS,
    OTHER,
    CategoricalFeature,
    NumericFeature,
    categorical_feature,
    numeric_feature,
)
from tests.registry.strategies import texts

float32s = st.floats(width=32)
columns = st.lists(float32s, max_size=60).map(lambda values: np.asarray(values, np.float32))
words = st.lists(st.just("") | texts, max_size=40)


@given(columns, columns)
def test_every_number_falls_into_the_one_bin_whose_edges_hold_it(reference: np.ndarray, values: np.ndarray) -> None:
    feature = numeric_feature("x", reference)
    expected = [0] * len(feature.bins)
    for value in values:
        inside = [i for i, edge in enumerate(feature.edges) if value <= edge]
        expected[-1 if np.isnan(value) else inside[0] if inside else len(feature.edges)] += 1
    assert feature.count(values).tolist() == expected


@given(columns)
def test_the_reference_counts_every_row_once(values: np.ndarray) -> None:
    feature = numeric_feature("x", values)
    assert sum(feature.reference) == len(values)
    assert len(feature.bins) == len(feature.reference) == len(set(feature.bins)) <= NUMERIC_BINS + 1
    assert feature.bins[-2:] == ("inf", MISSING)
    assert feature.reference[-1] == np.count_nonzero(np.isnan(values))


@given(columns, columns, columns)
def test_counts_add_over_batches(reference: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
    feature = numeric_feature("x", reference)
    assert (feature.count(one) + feature.count(two) == feature.count(np.concatenate([one, two]))).all()


def test_without_ties_the_bins_hold_equal_shares() -> None:
    feature = numeric_feature("x", np.random.default_rng(0).normal(size=20_000))
    assert len(feature.bins) == NUMERIC_BINS + 1
    assert max(feature.reference[:-1]) - min(feature.reference[:-1]) <= 2


def test_a_value_on_an_edge_falls_below_it() -> None:
    assert NumericFeature("x", (1.0, 2.0), (0, 0, 0, 0)).count(np.asarray([1.0, 1.5, 2.0, 2.5, np.inf, -np.inf], np.float32)).tolist() == [
        2,
        2,
        2,
        0,
    ]


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([], ()),
        ([np.nan], ()),
        ([np.inf, -np.inf], ()),
        ([-np.inf] * 9, ()),
        ([np.finfo(np.float32).min] * 9, (np.finfo(np.float32).min,)),
        ([1.0, np.inf], (np.nextafter(np.float32(1), np.float32(0)), 1.0)),
    ],
)
def test_a_column_without_quantiles_of_its_own_still_has_bins(values: list[float], edges: tuple[float, ...]) -> None:
    feature = numeric_feature("x", values)
    assert feature.edges == edges
    assert sum(feature.reference) == len(values)


@pytest.mark.parametrize("constant", [3.0, 0.0, -0.0, -2.5e30, float(np.finfo(np.float32).tiny)])
def test_what_is_below_or_above_a_constant_has_a_bin_of_its_own(constant: float) -> None:
    feature = numeric_feature("x", [constant] * 9)
    assert feature.reference == (0, 9, 0, 0)
    assert feature.count(np.nextafter(np.float32(constant), np.asarray([-9e37, 9e37], np.float32))).tolist() == [1, 0, 1, 0]


def test_double_precision_is_binned_as_the_float32_the_model_sees() -> None:
    feature = numeric_feature("x", [0.1] * 10 + [0.2] * 10)
    assert feature.count(np.asarray([0.1, 0.2], np.float32)).tolist() == [0, 1, 1, 0, 0]


@given(words, words)
def test_every_text_falls_into_its_bin_or_other_or_missing(reference: list[str], values: list[str]) -> None:
    feature = categorical_feature("c", reference)
    counts = dict(zip(feature.bins, feature.count(np.asarray(values, dtype=object)).tolist(), strict=True))
    for value in feature.values:
        assert counts[f"={value}"] == values.count(value)
    assert counts[MISSING] == values.count("")
    assert sum(counts.values()) == len(values)
    assert sum(feature.reference) == len(reference)


def test_the_fifty_most_frequent_values_have_bins_and_ties_go_by_name() -> None:
    reference = [f"v{number:03}" for number in range(60)] + ["v059"]
    feature = categorical_feature("c", reference)
    assert feature.values == ("v059", *(f"v{number:03}" for number in range(CATEGORIES - 1)))
    assert dict(zip(feature.bins, feature.reference, strict=True))[OTHER] == 10


@pytest.mark.parametrize("value", [OTHER, MISSING, "=x", "inf", "nan", "a\0", "\0"])
def test_no_text_is_taken_for_another_or_for_a_bin_of_ours(value: str) -> None:
    feature = categorical_feature("c", [value, "a"])
    assert len(set(feature.bins)) == 4
    assert dict(zip(feature.bins, feature.count(np.asarray([value], dtype=object)).tolist(), strict=True))[f"={value}"] == 1


def test_one_very_long_text_does_not_cost_its_length_for_every_row() -> None:
    feature = CategoricalFeature("c", ("a",), (1, 0, 0))
    values = np.asarray(["a"] * 50_000 + ["x" * 1_000_000], dtype=object)  # 200 GB as a column of one width
    assert feature.count(values).tolist() == [50_000, 1, 0]
