"""A data file as DuckDB reads it: the columns a role was given, derived ones too, of the rows between two times; whole or in chunks.

What the columns may hold is for `validation`; arrays and splits are for `dataset`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import pandas as pd
from pyarrow import ArrowException

from training.errors import ColumnMissingError, ColumnValueError, DataFileError
from training.spec import DataTable

T = TypeVar("T")

CHUNK_ROWS = 100_000
WHOLE_MEMORY, CHUNK_MEMORY = "80%", "1GB"
"""What DuckDB may hold: its default for all rows at once, less in chunks. It keeps what it read of a CSV file for as long as it may."""


def frame(data: DataTable, path: Path, text: Sequence[str]) -> pd.DataFrame:
    """All rows at once: the numeric columns of `data` as they are, and the columns `text` as text, empty where a value is missing.

    Raises:
        DataFileError: if the file is missing, neither CSV nor Parquet, unreadable, or a derived column cannot be computed.
        ColumnMissingError: if it lacks a column.
        ColumnValueError: if a derived column has the name of one that is there.
    """
    with _opened(data, path, text, WHOLE_MEMORY) as (rows, reader):
        found: pd.DataFrame = reader.wait_for(rows.df)
    return found


def frames(data: DataTable, path: Path, text: Sequence[str], report: Callable[[int, int], None]) -> Iterator[pd.DataFrame]:
    """The same of a file of any size, in chunks of `CHUNK_ROWS` rows or fewer, whose indices count on.

    `report` hears before the first and after each how many rows were read, of how many.
    """
    first = 0
    with _opened(data, path, text, CHUNK_MEMORY) as (rows, reader):
        total = int(reader.wait_for(rows.count("*").fetchall)[0][0])
        report(first, total)
        batches = reader.wait_for(lambda: rows.to_arrow_reader(CHUNK_ROWS))
        while (batch := reader.wait_for(lambda: next(batches, None))) is not None:
            chunk: pd.DataFrame = batch.to_pandas()
            chunk.index = pd.RangeIndex(first, first + len(chunk))
            first += len(chunk)
            yield chunk
            report(first, total)


@dataclass(frozen=True)
class _Reader:
    """The one thread in which DuckDB works, so that Ctrl-C is heard here.

    DuckDB 2.0.0 looks for signals between the tasks of a query only: it misses those that come while it plans, or in a long task.
    """

    connection: duckdb.DuckDBPyConnection
    thread: ThreadPoolExecutor

    def wait_for(self, work: Callable[[], T]) -> T:
        """Do `work` with the connection, or end it at the first Ctrl-C."""
        running = self.thread.submit(work)
        try:
            return running.result()
        except KeyboardInterrupt:
            while not running.done():  # again and again: a query that begins forgets what it was told before
                self.connection.interrupt()
                wait([running], 0.05)
            raise


@contextlib.contextmanager
def _opened(data: DataTable, path: Path, text: Sequence[str], memory: str) -> Iterator[tuple[duckdb.DuckDBPyRelation, _Reader]]:
    if not path.is_file():
        raise DataFileError(f"no data file at {path}: data.path is relative to the spec file")
    # Memory only, and no extension may be fetched: reading a file never touches another one nor the network.
    connected = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    with connected as connection, ThreadPoolExecutor(1, "duckdb") as thread:
        reader = _Reader(connection, thread)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET memory_limit = {_literal(memory)}")
            connection.execute(f"SET allowed_paths = [{_literal(str(path))}]")
            # A derived column is an expression somebody wrote: it may compute with this file, and open no other.
            connection.execute("SET enable_external_access = false")
            there = reader.wait_for(lambda: _source(connection, path, (), ("",)).columns)
            _check_columns(data, path.name, there, text)
            rows = reader.wait_for(lambda: _source(connection, path, [name for name in text if name in there], data.missing))
            yield _between(data, _derived(data, rows)).project(", ".join([*map(_quoted, data.numeric), *map(_as_text, text)])), reader
        except (duckdb.Error, ArrowException, OSError) as error:  # in chunks DuckDB's errors come by way of Arrow
            raise DataFileError(f"cannot read {path}: {_one_line(error)}") from error


def _source(connection: duckdb.DuckDBPyConnection, path: Path, text: Sequence[str], missing: Sequence[str]) -> duckdb.DuckDBPyRelation:
    match path.suffix.lower():
        case ".csv":
            # The whole file decides on a column's type: one text in row 300,000 must not be an error of the parser.
            types = dict.fromkeys(text, "VARCHAR")
            return connection.read_csv(str(path), sep=",", quotechar='"', header=True, sample_size=-1, dtype=types, na_values=list(missing))
        case ".parquet":
            return connection.read_parquet(str(path))
    raise DataFileError(f"{path.name} is neither .csv nor .parquet: convert it to one of these")


def _check_columns(data: DataTable, file: str, there: Sequence[str], text: Sequence[str]) -> None:
    if taken := sorted(set(data.derived) & set(there)):
        raise ColumnValueError(f"{file} has a column {', '.join(map(repr, taken))} already: derive one of another name")
    wanted = [*data.numeric, *text, *([data.time] if data.time else [])]
    if missing := [name for name in wanted if name not in {*there, *data.derived}]:
        raise ColumnMissingError(f"{file} has no column {', '.join(map(repr, missing))}; it has {', '.join(there)}")


def _derived(data: DataTable, rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    # Each on lines of its own, so that a comment in an expression ends with it.
    columns = [f"({expression}\n) AS {_quoted(name)}" for name, expression in data.derived.items()]
    return rows.project(", ".join(["*", *columns])) if columns else rows


def _between(data: DataTable, rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    time = f"CAST({_quoted(data.time)} AS TIMESTAMPTZ)"
    limits = [(data.since, ">="), (data.until, "<")]
    conditions = [f"{time} {sign} TIMESTAMPTZ {_literal(limit.isoformat())}" for limit, sign in limits if limit is not None]
    return rows.filter(" AND ".join(conditions)) if conditions else rows


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _as_text(name: str) -> str:
    return f"coalesce(CAST({_quoted(name)} AS VARCHAR), '') AS {_quoted(name)}"


def _one_line(error: Exception) -> str:
    text = str(error)
    if "sniffing" in text:
        return "its lines do not have the same number of comma-separated fields"
    return " ".join(text.split())[:200]
