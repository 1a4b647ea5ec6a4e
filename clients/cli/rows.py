"""Rows from a file: CSV and JSON by the standard library, Parquet where pyarrow is installed. What rows mean is for the client to say."""

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from clients.cli.errors import InputError

Table: TypeAlias = Mapping[str, list[Any]]
"""Columns by name, all of the same length."""


def read_table(path: Path, numeric: Collection[str]) -> Table:
    """The columns of a CSV, JSON, JSON Lines or Parquet file, by its ending.

    In CSV, where everything is text, cells of the columns in `numeric` become numbers if they are; an empty cell is None.

    Raises:
        InputError: if the file cannot be read, or is not what its ending says.
    """
    readers = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of file; use {', '.join(readers)}")
    try:
        table = reader(path)
    except (OSError, ValueError, RecursionError, csv.Error) as error:  # JSON, Unicode and Arrow errors are ValueErrors
        raise InputError(f"{path} cannot be read: {error}") from error
    if path.suffix.lower() != ".csv":
        return table
    return {name: [_number(cell) if name in numeric else cell for cell in cells] for name, cells in table.items()}


def _read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        rows = [row for row in reader if row]
    if not header or len(set(header)) != len(header):
        raise ValueError("its first line must name each column once")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the first line names {len(header)} columns")
    return {name: [row[place] or None for row in rows] for place, name in enumerate(header)}


def _read_json(path: Path) -> Table:
    value = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        return value
    return _columns(value)


def _read_json_lines(path: Path) -> Table:
    return _columns([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])


def _columns(rows: object) -> Table:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected a list of objects, or an object of lists")
    names = list(rows[0])
    for number, row in enumerate(rows, start=1):
        if set(row) != set(names):
            raise ValueError(f"row {number} has the keys {', '.join(row)}; row 1 has {', '.join(names)}")
    return {name: [row[name] for row in rows] for name in names}


def _read_parquet(path: Path) -> Table:
    # Imported here: it is heavy, and only training installs it.
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow (pip install pyarrow); CSV and JSON need nothing") from error
    columns: Table = parquet.read_table(path).to_pydict()
    return columns


def _number(cell: object) -> object:
    # What is no number stays text: the client then names column and row. Python's own 1_000 is no number in a data file.
    try:
        return float(cell) if isinstance(cell, str) and "_" not in cell else cell
    except ValueError:
        return cell
