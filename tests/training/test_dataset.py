"""Data are read as the spec says, or refused in one line that names file, column, value and row."""

import subprocess
import sys
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


TIMES = ["2013-01-01T00:00:00Z", "2013-03-31T23:59:59Z", "2013-04-01T01:00:00+02:00", "2013-04-01T00:00:00Z", None]
"""Before until, before it, before it by its offset, at it, and unknown"""


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_before_since_from_until_on_or_without_a_time_are_left_out(spec_file: Callable[..., Path], ending: str) -> None:
    limits = 'time = "t"\nsince = 2013-02-01\nuntil = 2013-04-01'
    path = spec_file({'"hmda.csv"': f'"timed.{ending}"\n{limits}'})
    frame = pd.read_csv(path.parent / "hmda.csv").iloc[:2000].assign(t=pd.Series(TIMES * 400), pirat=list(range(5)) * 400)
    frame.to_csv(path.parent / "timed.csv", index=False)
    frame.to_parquet(path.parent / "timed.parquet")
    loaded = spec.load(path)
    rows, classes = dataset.read(loaded, path.parent / loaded.data.path)
    assert (len(rows), set(rows.numeric[:, 0].tolist()), classes) == (800, {1.0, 2.0}, ("no", "yes"))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_a_time_column_may_be_of_any_type_of_time(spec_file: Callable[..., Path], zone: str | None) -> None:
    path = spec_file({'"hmda.csv"': '"timed.parquet"\ntime = "t"\nuntil = 2013-04-01'})
    times = pd.to_datetime(["2013-03-31T23:00", "2013-04-01T01:00"] * 1000, utc=True).tz_convert(zone)
    pd.read_csv(path.parent / "hmda.csv").iloc[:2000].assign(t=times).to_parquet(path.parent / "timed.parquet")
    assert len(dataset.read(spec.load(path), path.parent / "timed.parquet")[0]) == 1000


def test_derived_columns_are_computed_from_those_of_the_row(spec_file: Callable[..., Path]) -> None:
    derived = '[data.derived]\nratio = "pirat * hirat -- a comment"\nletter = "upper(deny[1])"\n\n[fairness]'
    path = spec_file({"[fairness]": derived, '"unemp"]': '"unemp", "ratio"]', '"hschool"]': '"hschool", "letter"]'})
    rows = _load(path).holdout
    np.testing.assert_allclose(rows.numeric[:, -1], rows.numeric[:, 0] * rows.numeric[:, 1], rtol=1e-5)
    assert set(rows.categorical[:, -1]) == {"Y", "N"}


@pytest.mark.parametrize(
    ("name", "expression", "message"),
    [
        ("ratio", "pirat / nosuch", 'Referenced column "nosuch" not found'),
        ("ratio", "pirat) AS ratio; DROP TABLE x; --", "syntax error"),
        ("ratio", "(SELECT max(lvrat) FROM read_csv('spec.toml'))", "disabled by configuration"),
        ("ratio", "(SELECT content FROM read_text('/etc/hostname'))", "disabled by configuration"),
        ("hirat", "pirat * 2", "has a column 'hirat' already"),
    ],
)
def test_an_expression_that_fails_or_reaches_for_another_file_is_refused(
    spec_file: Callable[..., Path], name: str, expression: str, message: str
) -> None:
    path = spec_file({"[fairness]": f'[data.derived]\n{name} = "{expression}"\n\n[fairness]', '"unemp"]': '"unemp", "ratio"]'})
    with pytest.raises(DataError) as refused:
        _load(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_breaks_off_in_a_later_chunk_is_refused(spec_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.source.CHUNK_ROWS", 1000)
    path = spec_file({'"hmda.csv"': '"hmda.parquet"'})
    data = path.parent / "hmda.parquet"
    pd.concat([pd.read_csv(EXAMPLE / "hmda.csv")] * 100).to_parquet(data, row_group_size=20_000, compression=None)
    broken = bytearray(data.read_bytes())
    broken[len(broken) // 2 : len(broken) // 2 + 100_000] = bytes(100_000)
    data.write_bytes(broken)
    with pytest.raises(DataFileError, match=r"cannot read .*hmda\.parquet"):
        list(dataset.chunks(spec.load(path), data, lambda _done, _total: None))


def test_a_time_without_rows_is_named(spec_file: Callable[..., Path]) -> None:
    path = spec_file({'"hmda.csv"': '"timed.csv"\ntime = "t"\nuntil = 1989-01-01'})
    pd.read_csv(path.parent / "hmda.csv").assign(t="1990-01-01").to_csv(path.parent / "timed.csv", index=False)
    with pytest.raises(ColumnValueError, match=r"timed\.csv has no rows that the spec asks for"):
        _load(path)


INTERRUPTED = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and all they start, have it ignored
from pathlib import Path
from training import dataset, spec
loaded = spec.load(Path(sys.argv[1]))
for seconds in (0.1, 0.4, 1.0):  # in DuckDB's reading of the file, its planning and its work
    threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        dataset.load(loaded, Path(sys.argv[1]).parent / loaded.data.path)
    except KeyboardInterrupt:
        continue
    sys.exit(1)
"""


def test_ctrl_c_ends_the_reading_whatever_duckdb_is_at(spec_file: Callable[..., Path]) -> None:
    endless = '[data.derived]\nendless = "(SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b) + pirat"\n\n[fairness]'
    path = spec_file({"[fairness]": endless, '"unemp"]': '"unemp", "endless"]'})
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
