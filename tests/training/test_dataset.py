"""Data are read as the spec says, or refused in one line that names file, column, value and row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.training.conftest import EXAMPLE
from training import dataset, spec
from training.errors import ColumnMissingError, ColumnValueError, DataError, DataFileError

FIRST = "0.2210000038146972"  # pirat and hirat of the first row


def _load(path: Path) -> dataset.Dataset:
    loaded = spec.load(path)
    return dataset.load(loaded, path.parent / loaded.data.path)


def test_every_row_is_in_exactly_one_part_and_both_parts_have_the_same_share_of_positives() -> None:
    data = _load(EXAMPLE / "spec.toml")
    assert len(data.training) + len(data.holdout) == 2380
    assert data.training.outcome.sum() + data.holdout.outcome.sum() == 285
    assert data.training.outcome.mean() == pytest.approx(data.holdout.outcome.mean(), abs=0.002)
    assert data.classes == ("no", "yes")


def test_columns_have_the_types_of_the_packed_inputs() -> None:
    rows = _load(EXAMPLE / "spec.toml").holdout
    assert (rows.numeric.dtype.name, rows.numeric.shape) == ("float32", (714, 6))
    assert (rows.categorical.dtype.name, rows.categorical.shape) == ("object", (714, 6))
    assert {type(value) for value in rows.categorical.ravel()} == {str}
    assert set(rows.protected) == {"yes", "no"}


def test_empty_cells_are_nan_and_empty_text(spec_file: Callable[..., Path]) -> None:
    path = spec_file(rows=lambda text: text.replace(f"no,{FIRST},{FIRST},0.8,5,2,no,", "no,,,0.8,5,2,,", 1))
    data = _load(path)
    numeric = np.vstack([data.training.numeric, data.holdout.numeric])
    categorical = np.vstack([data.training.categorical, data.holdout.categorical])
    assert np.isnan(numeric).sum(axis=0).tolist() == [1, 1, 0, 0, 0, 0]
    assert (categorical == "").sum(axis=0).tolist() == [1, 0, 0, 0, 0, 0]


def test_the_spec_says_which_texts_mean_missing(spec_file: Callable[..., Path]) -> None:
    changes = {'positive = "yes"': 'positive = "yes"\nmissing = ["", "NA"]'}
    data = _load(spec_file(changes, rows=lambda text: text.replace(FIRST, "NA", 1)))
    assert np.isnan(np.vstack([data.training.numeric, data.holdout.numeric])).sum() == 1


def test_parquet_gives_the_same_rows_as_csv(spec_file: Callable[..., Path]) -> None:
    path = spec_file({'"hmda.csv"': '"hmda.parquet"'})
    pd.read_csv(path.parent / "hmda.csv").to_parquet(path.parent / "hmda.parquet")
    ours, example = _load(path).holdout, _load(EXAMPLE / "spec.toml").holdout
    np.testing.assert_array_equal(ours.numeric, example.numeric)
    np.testing.assert_array_equal(ours.categorical, example.categorical)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (lambda text: text.replace(FIRST, "a third", 1), ColumnValueError, "column 'pirat' has 'a third' in data row 1: expected numbers"),
        (lambda text: text.replace(FIRST, "inf", 1), ColumnValueError, "column 'pirat' has 'inf' in data row 1: expected finite numbers"),
        (lambda text: text.replace(FIRST, "1e39", 1), ColumnValueError, "expected finite numbers"),
        (lambda text: text.replace("pirat", "pirate", 1), ColumnMissingError, "hmda.csv has no column 'pirat'; it has deny, pirate, hirat"),
        (
            lambda text: text.replace("\nno,", "\nperhaps,", 1),
            ColumnValueError,
            "must have exactly two values; it has 3: 'no', 'perhaps', 'yes'",
        ),
        (lambda text: text.replace("\nno,", "\n,", 1), ColumnValueError, "expected a value in every row"),
        (lambda text: text.replace("\nno,", "\nextra,no,", 1), DataFileError, "same number of comma-separated fields"),
        (lambda text: "\n".join(text.split("\n")[:40]), ColumnValueError, "need at least 10 of it each"),
        (lambda _: "\x00\x01\x02", DataError, "hmda.csv"),
        (lambda _: "", DataError, "hmda.csv"),
    ],
)
def test_bad_rows_are_named_in_one_line(
    spec_file: Callable[..., Path], rows: Callable[[str], str], error: type[DataError], message: str
) -> None:
    with pytest.raises(error) as refused:
        _load(spec_file(rows=rows))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"hmda.csv"', '"none.csv"', DataFileError, "no data file at"),
        ('"hmda.csv"', '"spec.toml"', DataFileError, "spec.toml is neither .csv nor .parquet"),
        ('positive = "yes"', 'positive = "denied"', ColumnValueError, "data.positive is 'denied', but column 'deny' holds 'no', 'yes'"),
        ('privileged = "no"', 'privileged = "white"', ColumnValueError, "fairness.privileged is 'white'"),
        ('favourable = "no"', 'favourable = "approved"', ColumnValueError, "fairness.favourable is 'approved'"),
    ],
)
def test_a_spec_that_does_not_fit_the_data_is_named_in_one_line(
    spec_file: Callable[..., Path], old: str, new: str, error: type[DataError], message: str
) -> None:
    with pytest.raises(error, match=message):
        _load(spec_file({old: new}))


@pytest.mark.parametrize("value", [pd.Timestamp("2026-01-01"), [1.0, 2.0], "text"], ids=["time", "list", "text"])
def test_a_parquet_column_of_another_type_is_named(spec_file: Callable[..., Path], value: object) -> None:
    path = spec_file({'"hmda.csv"': '"hmda.parquet"'})
    frame = pd.read_csv(path.parent / "hmda.csv")
    frame["pirat"] = pd.Series([value] * len(frame))
    frame.to_parquet(path.parent / "hmda.parquet")
    with pytest.raises(ColumnValueError, match=r"column 'pirat' .*numbers"):
        _load(path)


def test_a_file_that_only_looks_like_parquet_is_refused(spec_file: Callable[..., Path]) -> None:
    path = spec_file({'"hmda.csv"': '"hmda.parquet"'})
    (path.parent / "hmda.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataFileError, match=r"cannot read .*hmda\.parquet"):
        _load(path)
