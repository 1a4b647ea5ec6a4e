"""Rows of a data file, read by DuckDB: the columns a spec names, as arrays, split into training and held-out.

What the columns may hold is for `validation`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from training.errors import ColumnMissingError, ColumnValueError, DataFileError
from training.spec import Spec
from training.validation import validate

MIN_ROWS_PER_CLASS = 10
"""Fewer in the training or the held-out part and neither cross-validation nor an interval means anything."""


@dataclass(frozen=True)
class Rows:
    """n rows by column role.

    `numeric` float32 [n, p], NaN is missing; `categorical` object of str [n, q], the empty text is missing; `outcome` int64 [n], 1 is
    positive; `protected` object of str [n], the empty text where unknown or where the spec names no attribute.
    """

    numeric: NDArray[np.float32]
    categorical: NDArray[np.object_]
    outcome: NDArray[np.int64]
    protected: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.outcome)

    def take(self, places: NDArray[np.integer] | slice) -> "Rows":
        """The rows at `places`, in that order."""
        return Rows(self.numeric[places], self.categorical[places], self.outcome[places], self.protected[places])


@dataclass(frozen=True)
class Dataset:
    """A file's rows, split, with the sha256 of the file. `classes` are the names of outcome 0 and 1."""

    training: Rows
    holdout: Rows
    classes: tuple[str, str]
    digest: str

    def labels(self, rows: Rows) -> NDArray[np.object_]:
        """The class name of every row's outcome: object of str [n]."""
        return np.asarray(self.classes, object)[rows.outcome]


def load(spec: Spec, path: Path) -> Dataset:
    """Read the file at `path`, check it and split it by the seed of the spec, stratified by outcome.

    Raises:
        DataFileError: if it is missing, neither CSV nor Parquet, or unreadable.
        ColumnMissingError, ColumnValueError: if its columns are not what the spec says.
    """
    frame = validate(_read(spec, path), spec)
    negative = next(value for value in sorted(frame[spec.data.outcome].unique()) if value != spec.data.positive)
    rows = _rows(spec, frame)
    _check_enough(spec, rows.outcome)
    training, holdout = train_test_split(
        np.arange(len(rows)), test_size=spec.evaluation.holdout, stratify=rows.outcome, random_state=spec.evaluation.seed
    )
    return Dataset(rows.take(training), rows.take(holdout), (str(negative), spec.data.positive), _digest(path))


def _rows(spec: Spec, frame: pd.DataFrame) -> Rows:
    protected = frame[spec.fairness.attribute] if spec.fairness else pd.Series("", index=frame.index)
    return Rows(
        frame[list(spec.data.numeric)].to_numpy(np.float32),
        frame[list(spec.data.categorical)].to_numpy(object),
        (frame[spec.data.outcome] == spec.data.positive).to_numpy().astype(np.int64),
        protected.to_numpy(object),
    )


def _read(spec: Spec, path: Path) -> pd.DataFrame:
    text = [*spec.data.categorical, spec.data.outcome, *([spec.fairness.attribute] if spec.fairness else [])]
    if not path.is_file():
        raise DataFileError(f"no data file at {path}: data.path is relative to the spec file")
    # Memory only, and no extension may be fetched: reading a file never touches another one nor the network.
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    try:
        found = _source(connection, path, (), ("",)).columns
        if missing := [name for name in (*spec.data.numeric, *text) if name not in found]:
            raise ColumnMissingError(f"{path.name} has no column {', '.join(map(repr, missing))}; it has {', '.join(found)}")
        rows = _source(connection, path, text, spec.data.missing)
        frame: pd.DataFrame = rows.project(", ".join([*map(_quoted, spec.data.numeric), *map(_as_text, text)])).df()
    except duckdb.Error as error:
        raise DataFileError(f"cannot read {path}: {_one_line(error)}") from error
    finally:
        connection.close()
    return frame


def _source(connection: duckdb.DuckDBPyConnection, path: Path, text: Sequence[str], missing: Sequence[str]) -> duckdb.DuckDBPyRelation:
    match path.suffix.lower():
        case ".csv":
            # The whole file decides on a column's type: one text in row 300,000 must not be an error of the parser.
            types = dict.fromkeys(text, "VARCHAR")
            return connection.read_csv(str(path), sep=",", quotechar='"', header=True, sample_size=-1, dtype=types, na_values=list(missing))
        case ".parquet":
            return connection.read_parquet(str(path))
    raise DataFileError(f"{path.name} is neither .csv nor .parquet: convert it to one of these")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _as_text(name: str) -> str:
    return f"coalesce(CAST({_quoted(name)} AS VARCHAR), '') AS {_quoted(name)}"


def _one_line(error: duckdb.Error) -> str:
    text = str(error)
    if "sniffing" in text:
        return "its lines do not have the same number of comma-separated fields"
    return " ".join(text.split())[:200]


def _check_enough(spec: Spec, outcome: NDArray[np.int64]) -> None:
    smallest = int(np.bincount(outcome, minlength=2).min())
    part = min(spec.evaluation.holdout, 1 - spec.evaluation.holdout)
    if smallest * part < MIN_ROWS_PER_CLASS:
        raise ColumnValueError(
            f"the rarer value of {spec.data.outcome!r} has only {smallest} rows: "
            f"training and held-out rows need at least {MIN_ROWS_PER_CLASS} of it each"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
