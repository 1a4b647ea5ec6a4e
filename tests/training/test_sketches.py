"""A profile made in one pass from chunks is the exact one while a sketch holds every value, and within its error beyond."""

import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from registry.profile import CATEGORIES, NUMERIC_BINS, CategoricalFeature, NumericFeature, categorical_feature, numeric_feature
from tests.registry.strategies import texts
from training.sketches import KLL_K, CategorySketch, NumericSketch

ROWS = 400_000
float32s = st.floats(width=32)
columns = st.lists(float32s, max_size=60).map(lambda values: np.asarray(values, np.float32))


def sketched(values: NDArray[np.float32], chunk: int = 10_000) -> tuple[NumericFeature, NumericSketch]:
    sketch = NumericSketch()
    for start in range(0, len(values), chunk):
        sketch.add(values[start : start + chunk])
    return sketch.feature("x"), sketch


def counted(values: list[str], chunk: int = 10_000) -> CategoricalFeature:
    sketch = CategorySketch()
    for start in range(0, len(values), chunk):
        sketch.add(values[start : start + chunk])
    return sketch.feature("c")


@given(columns, st.integers(1, 7))
def test_few_numbers_are_binned_exactly_as_in_memory_however_they_are_cut(values: np.ndarray, chunk: int) -> None:
    found, sketch = sketched(values, chunk)
    assert found == numeric_feature("x", values)
    assert sketch.rank_error == 0


@pytest.mark.parametrize("rows", [1, 2, 19, 20, 21, 999, KLL_K])
def test_a_sketch_is_exact_up_to_its_size(rows: int) -> None:
    values = np.random.default_rng(rows).normal(size=rows).astype(np.float32)
    assert sketched(values)[0] == numeric_feature("x", values)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).normal(size=ROWS),
        np.random.default_rng(2).lognormal(sigma=3, size=ROWS),
        np.arange(ROWS, dtype=np.float32),
        np.random.default_rng(3).integers(0, 24, size=ROWS),
        np.where(np.arange(ROWS) % 11 == 0, np.nan, np.arange(ROWS)[::-1] % 5000),
        np.where(np.arange(ROWS) % 7 == 0, np.inf, np.sin(np.arange(ROWS))),
    ],
    ids=["normal", "heavy tail", "one distinct value per row, sorted", "hours", "missing, falling", "infinities"],
)
def test_many_numbers_have_edges_and_counts_within_the_error_of_the_sketch(values: np.ndarray) -> None:
    column = values.astype(np.float32)
    (found, sketch), present = sketched(column), np.sort(column[~np.isnan(column)])
    error = sketch.rank_error
    assert 0 < error < 0.001
    # Its own counts against the exact ones in the same bins; 99 % confidence for one query, so twice the error for all of them.
    exact = found.count(column)
    assert np.abs(exact - found.reference).max() <= 2 * error * len(present)
    assert (exact[-1], sum(found.reference)) == (found.reference[-1], len(column))
    assert set(found.edges[1:]) <= set(present.tolist())  # the first may be right below the lowest value
    for edge in numeric_feature("x", column).edges:
        low, high = np.searchsorted(present, edge, "left"), np.searchsorted(present, edge, "right")
        near = [e for e in found.edges if low - 2 * error * len(present) <= np.searchsorted(present, e) <= high + 2 * error * len(present)]
        assert near, f"no edge near {edge}"


BELOW_0, BELOW_3 = (float(np.nextafter(np.float32(value), np.float32(-1))) for value in (0, 3))
LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("values", "edges", "reference"),
    [
        (np.full(ROWS, 3.0), (BELOW_3, 3.0), (0, ROWS, 0, 0)),
        (np.full(ROWS, np.nan), (), (0, ROWS)),
        (np.full(ROWS, np.inf), (LARGEST,), (0, ROWS, 0)),
        (np.full(ROWS, -np.inf), (), (ROWS, 0)),
        (np.full(ROWS, -0.0), (BELOW_0, 0.0), (0, ROWS, 0, 0)),
        (np.empty(0), (), (0, 0)),
    ],
    ids=["constant", "all missing", "all infinite", "all minus infinite", "minus zero", "no rows"],
)
def test_a_column_without_quantiles_of_its_own_is_binned_as_in_memory(
    values: np.ndarray, edges: tuple[float, ...], reference: tuple[int, ...]
) -> None:
    column = values.astype(np.float32)
    assert sketched(column)[0] == NumericFeature("x", edges, reference) == numeric_feature("x", column)


@given(st.lists(st.just("") | texts | st.sampled_from(["a", "a\0", "other", "missing"]), max_size=60), st.integers(1, 7))
def test_texts_are_counted_exactly_as_in_memory_however_they_are_cut(values: list[str], chunk: int) -> None:
    assert counted(values, chunk) == categorical_feature("c", values)


def test_as_many_different_texts_as_the_sketch_holds_are_counted_exactly() -> None:
    values = [f"v{number}" for number in range(24_000)] + ["v23999", ""]
    assert counted(values) == categorical_feature("c", values)


def test_of_more_different_texts_the_frequent_ones_are_found_and_their_counts_are_never_too_high() -> None:
    rng = np.random.default_rng(4)
    # A tail of 200,000 texts that occur once each, and 40 that share half of the rows.
    values = [f"once{number}" for number in range(ROWS // 2)] + [f"often{number % 40:02}" for number in range(ROWS // 2)]
    rng.shuffle(values)
    found, exact = counted(values), Counter(values)
    assert set(found.values) == {f"often{number:02}" for number in range(40)}
    for value, count in zip(found.values, found.reference, strict=False):
        assert exact[value] - 0.00011 * ROWS <= count <= exact[value]
    assert sum(found.reference) == ROWS


def test_one_text_per_row_leaves_bins_for_other_and_missing_alone() -> None:
    found = counted([f"row{number}" for number in range(100_000)] + [""] * 5)
    assert len(found.values) <= CATEGORIES
    assert sum(found.reference) == 100_005
    assert found.reference[-2:] == (100_000 - sum(found.reference[:-2]), 5)
    assert found.reference[-2] > 99_000


def numbers(chunks: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return (rng.random(100_000, np.float32) for _ in range(chunks))


def resident() -> int:
    """Bytes of memory this process holds; sketches live outside Python's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_does_not_grow_with_the_rows() -> None:
    sketch, label = NumericSketch(), CategorySketch()
    seen = []
    for number, values in enumerate(numbers(120)):
        sketch.add(values)
        label.add(f"{value:.6f}" for value in values[:10_000].tolist())
        if number in {40, 119}:
            seen.append(resident())
    feature = sketch.feature("x")
    assert sum(feature.reference) == 12_000_000
    assert len(feature.edges) == NUMERIC_BINS - 1
    np.testing.assert_allclose(feature.edges, np.arange(1, NUMERIC_BINS) / NUMERIC_BINS, atol=0.003)
    assert seen[1] - seen[0] < 16 << 20, "bytes for 32 MB more of numbers"
