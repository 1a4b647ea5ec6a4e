"""Rows of a data file as arrays: all of them, split into training and held-out, or chunk by chunk.

Reading is for `source`, what the columns may hold for `validation`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from training import source
from training.errors import ColumnValueError
from training.spec import Spec
from training.validation import validate, validate_features

MIN_ROWS_PER_CLASS = 10
"""Fewer in the training or the held-out part and neither cross-validation nor an interval means anything."""


@dataclass(frozen=True)
class Inputs:
    """What a model sees of n rows: `numeric` float32 [n, p], NaN is missing; `categorical` object of str [n, q], empty is missing."""

    numeric: NDArray[np.float32]
    categorical: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.numeric)


@dataclass(frozen=True)
class Rows(Inputs):
    """n rows by column role: the inputs, and what is known of each.

    `outcome` int64 [n], 1 is positive; `protected` object of str [n], the empty text where unknown or where the spec names no attribute.
    """

    outcome: NDArray[np.int64]
    protected: NDArray[np.object_]

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
    """Read the rows of the file at `path`, check them and split them by the seed of the spec, stratified by outcome.

    Raises:
        DataFileError: if it is missing, neither CSV nor Parquet, or unreadable.
        ColumnMissingError, ColumnValueError: if its columns are not what the spec says.
    """
    rows, classes = read(spec, path)
    _check_enough(spec, rows.outcome)
    training, holdout = train_test_split(
        np.arange(len(rows)), test_size=spec.evaluation.holdout, stratify=rows.outcome, random_state=spec.evaluation.seed
    )
    return Dataset(rows.take(training), rows.take(holdout), classes, _digest(path))


def read(spec: Spec, path: Path) -> tuple[Rows, tuple[str, str]]:
    """All rows the spec asks for, in the order of the file, and the names of outcome 0 and 1; raises as `load` does."""
    protected = [spec.fairness.attribute] if spec.fairness else []
    found = source.frame(spec.data, path, [*spec.data.categorical, spec.data.outcome, *protected])
    if found.empty:
        raise ColumnValueError(f"{path.name} has no rows that the spec asks for")
    frame = validate(found, spec)
    negative = next(value for value in sorted(frame[spec.data.outcome].unique()) if value != spec.data.positive)
    return _rows(spec, frame), (str(negative), spec.data.positive)


def chunks(spec: Spec, path: Path, report: Callable[[int, int], None]) -> Iterator[Inputs]:
    """The inputs of all rows the spec asks for, chunk by chunk and checked as they come; raises as `load` does.

    `report` hears before the first and after each how many rows are done, of how many.
    """
    for frame in source.frames(spec.data, path, spec.data.categorical, report):
        yield _inputs(spec, validate_features(frame, spec))


def _inputs(spec: Spec, frame: pd.DataFrame) -> Inputs:
    return Inputs(frame[list(spec.data.numeric)].to_numpy(np.float32), frame[list(spec.data.categorical)].to_numpy(object))


def _rows(spec: Spec, frame: pd.DataFrame) -> Rows:
    inputs = _inputs(spec, frame)
    outcome = (frame[spec.data.outcome] == spec.data.positive).to_numpy().astype(np.int64)
    protected = frame[spec.fairness.attribute] if spec.fairness else pd.Series("", index=frame.index)
    return Rows(inputs.numeric, inputs.categorical, outcome, protected.to_numpy(object))


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
