"""Data frames, dicts of columns and lists of rows to the packed arrays of a model. Knows no protocol; never imports pandas."""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from tidegate_client.errors import InputError
from tidegate_client.values import Array, Columns

NUMERIC = "numeric"
CATEGORICAL = "categorical"
_REAL_KINDS = "buif"
_NULL_TYPES = {"NAType", "NaTType"}  # pandas' own; known by name since pandas may be missing


class Frame(Protocol):
    """What is asked of a data frame: that of pandas has it."""

    @property
    def columns(self) -> Any:
        """Column names."""

    def __getitem__(self, key: Any, /) -> Any:
        """One column, which numpy can take."""


Row: TypeAlias = Mapping[str, object]
Data: TypeAlias = Frame | Mapping[str, Any] | Sequence[Row]


def pack(data: Data, columns: Columns) -> dict[str, Array]:
    """`numeric` float32 [n, p] and `categorical` object [n, q] of text, those that the model has.

    Columns of `data` are found by name, in any order. None and NaN become NaN in a numeric column and empty text in a categorical one.

    Raises:
        InputError: for columns missing or unknown, columns of different lengths, no rows, text in a numeric column, a number that is not
            whole in a categorical one.
    """
    table = _table(data, columns)
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns have different lengths: {', '.join(f'{name} {length}' for name, length in lengths.items())}")
    if not all(lengths.values()):
        raise InputError("no rows to predict: the data are empty")
    packed: dict[str, Array] = {}
    if columns.numeric:
        packed[NUMERIC] = np.column_stack([_numeric(name, table[name]) for name in columns.numeric])
    if columns.categorical:
        packed[CATEGORICAL] = np.column_stack([_categorical(name, table[name]) for name in columns.categorical])
    return packed


def _table(data: Data, columns: Columns) -> dict[str, Array]:
    if isinstance(data, Mapping):
        _check_names(list(data), columns)
        return {name: _column(name, data[name]) for name in columns.names}
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        return _columns_of(data, columns)
    frame: Any = data
    if isinstance(data, Sequence) or not hasattr(frame, "columns"):
        raise InputError(f"data must be a data frame, a dict of columns or tensors, or a list of dicts; not {type(data).__name__}")
    _check_names(list(frame.columns), columns)
    return {name: _column(name, frame[name]) for name in columns.names}


def _columns_of(rows: Sequence[Row], columns: Columns) -> dict[str, Array]:
    for number, row in enumerate(rows):
        _check_names(list(row), columns, f"row {number}: ")
    return {name: _objects([row[name] for row in rows]) for name in columns.names}


def _check_names(given: list[Any], columns: Columns, where: str = "") -> None:
    known = set(columns.names)
    if len(given) == len(known) and set(given) == known:
        return
    wrong = [
        f"{what} {', '.join(map(repr, names))}"
        for what, names in (
            ("missing", [name for name in columns.names if name not in given]),
            ("unknown", [name for name in given if name not in known]),
            ("twice", sorted({name for name in given if given.count(name) > 1}, key=str)),
        )
        if names
    ]
    if wrong:
        raise InputError(f"{where}columns do not fit the model: {'; '.join(wrong)}")


def _column(name: str, values: Any) -> Array:
    array = np.asarray(values) if hasattr(values, "__array__") else _objects(values) if isinstance(values, Iterable) else np.asarray(values)
    if array.ndim != 1 or isinstance(values, str | bytes):
        raise InputError(f"column {name!r} must be a list of values, one per row")
    return array


def _objects(values: Iterable[object]) -> Array:
    # Never np.array: that would turn [1, "a"] into text, and lists of lists into a matrix.
    return np.fromiter(values, dtype=object)


def _numeric(name: str, values: Array) -> Array:
    wide = values if values.dtype.kind in _REAL_KINDS else np.array([_number(name, row, value) for row, value in enumerate(values)])
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    lost = np.isinf(narrow) & ~np.isinf(wide)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(f"column {name!r}, row {row}: {wide[row]!s} is too large for a 32-bit float")
    return narrow


def _number(name: str, row: int, value: Any) -> float:
    if _is_null(value):
        return math.nan
    if isinstance(value, numbers.Real | np.bool_) or type(value).__name__ == "Decimal":
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"column {name!r}, row {row}: {value!r} is too large for a 32-bit float") from None
    raise InputError(f"column {name!r} is numeric, but row {row} holds {value!r}")


def _categorical(name: str, values: Array) -> Array:
    return _objects([_text(name, row, value) for row, value in enumerate(values.tolist())])


def _text(name: str, row: int, value: Any) -> str:
    if _is_null(value):
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)  # a code such as 3; 3.0 and True have more than one spelling, so the caller chooses
    raise InputError(f"column {name!r} is categorical, but row {row} holds {value!r}: give text, spelt as in training")


def _is_null(value: Any) -> bool:
    return value is None or type(value).__name__ in _NULL_TYPES or (isinstance(value, float | np.floating) and math.isnan(value))
