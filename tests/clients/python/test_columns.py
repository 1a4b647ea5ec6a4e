"""Rows find their places by column name; what does not fit is named with its column and row."""

import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate_client import Columns, InputError
from tidegate_client.columns import pack

COLUMNS = Columns(("a", "b"), ("c",))
NUMBERS = st.none() | st.floats(width=32) | st.integers(-(1 << 24), 1 << 24) | st.booleans()
ROWS = st.lists(st.fixed_dictionaries({"a": NUMBERS, "b": NUMBERS, "c": st.none() | st.text()}), min_size=1, max_size=6)


@given(ROWS, st.permutations(["a", "b", "c"]))
def test_rows_columns_and_frames_pack_alike(rows: list[dict[str, Any]], order: list[str]) -> None:
    packed = pack([{name: row[name] for name in order} for row in rows], COLUMNS)
    columns: Any = {name: [row[name] for row in rows] for name in order}
    frames = [pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()}), pd.DataFrame(columns)]
    for data in [columns, *frames]:
        other = pack(data, COLUMNS)
        np.testing.assert_array_equal(other["numeric"], packed["numeric"])
        assert other["categorical"].tolist() == packed["categorical"].tolist()
    expected = [[math.nan if row[name] is None else float(row[name]) for name in ("a", "b")] for row in rows]
    np.testing.assert_array_equal(packed["numeric"], np.array(expected, np.float32))
    assert packed["numeric"].dtype == np.float32
    assert packed["categorical"].tolist() == [[row["c"] or ""] for row in rows]


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT, decimal.Decimal("NaN")])
def test_missing_values_of_every_kind(missing: Any) -> None:
    packed = pack([{"a": missing, "b": 1, "c": missing if not isinstance(missing, decimal.Decimal) else None}], COLUMNS)
    assert math.isnan(packed["numeric"][0, 0])
    assert packed["categorical"].tolist() == [[""]]


def test_every_numeric_type_is_a_number() -> None:
    values = [1, 1.0, True, np.int8(1), np.float64(1), np.bool_(1), decimal.Decimal(1)]
    assert pack({"a": values}, Columns(("a",)))["numeric"].ravel().tolist() == [1.0] * 7


def test_whole_numbers_are_categories_spelt_as_text() -> None:
    assert pack({"c": np.array([3, -1])}, Columns((), ("c",)))["categorical"].tolist() == [["3"], ["-1"]]
    assert pack({"c": pd.Categorical(["x", None])}, Columns((), ("c",)))["categorical"].tolist() == [["x"], [""]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"a": 1, "b": "x", "c": ""}], ["'b'", "row 0", "'x'"]),
        ({"a": [1, 2], "b": ["1", 2], "c": ["", ""]}, ["'b'", "row 0", "'1'"]),
        ({"a": [1, 2], "b": [1, [2]], "c": ["", ""]}, ["'b'", "row 1"]),
        ({"a": [1.0, 1e39], "b": [1, 2], "c": ["", ""]}, ["'a'", "row 1", "too large"]),
        ({"a": [10**400], "b": [1], "c": [""]}, ["'a'", "row 0", "too large"]),
        ({"a": [1], "b": [2], "c": [3.0]}, ["'c'", "row 0", "3.0"]),
        ({"a": [1], "b": [2], "c": [True]}, ["'c'", "row 0", "True"]),
        ({"a": [1], "b": 2, "c": ["x"]}, ["'b'"]),
        ({"a": [1], "b": [2], "c": "x"}, ["'c'"]),
        ({"a": [[1]], "b": np.ones((1, 2)), "c": ["x"]}, ["'b'"]),
        ([{"a": 1, "b": 2, "c": "x"}, {"a": 1, "b": 2}], ["row 1", "missing 'c'"]),
        ([{"a": 1, "b": 2, "c": "x", "d": 1}], ["row 0", "unknown 'd'"]),
        ([], ["no rows"]),
        (pd.DataFrame([[1, 2, 3, "x"]], columns=["a", "a", "b", "c"]), ["twice 'a'"]),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"]), "b": 1, "c": "x"}), ["'a'", "numeric"]),
        (3, ["not int"]),
    ],
)
def test_what_does_not_fit_is_named(data: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        pack(data, COLUMNS)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
