"""Predictions and their labels, joined by prediction id and row: the Parquet files of both logs, read by DuckDB. No statistics here.

It reads files of this machine and nothing else. What the logs hold stands in docs/formats/prediction-log.md and feedback-log.md.
"""

import datetime as dt
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import duckdb
import numpy as np
from numpy.typing import NDArray

from control_plane.errors import LogUnreadableError, ScoreMissingError, TooManyRowsError
from registry.bundle import Signature
from registry.route import CANARY, STABLE

T = TypeVar("T")

POSITIVE, NEGATIVE, UNLABELLED, FOREIGN = 1, 0, -1, -2
"""A row's outcome: the positive class, another one, no label yet, a label that is no class of the version."""
MEMORY = "1GB"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": MEMORY,
    "temp_directory": "",  # it would leave files in the folder the program was started in
    "threads": "1",
}
_WINNERS = """
    SELECT prediction_id, "row", max(struct_pack(observed := epoch_us(observed), received := epoch_us(received),
                                                 class := "class", value := value)) AS label
    FROM read_parquet($feedback, union_by_name = true) GROUP BY prediction_id, "row"
"""
"""Of several labels of a row the one observed last holds, of those the one received last."""
_NO_LABELS = (
    'SELECT NULL::VARCHAR AS prediction_id, NULL::INTEGER AS "row", NULL::STRUCT(observed BIGINT, class VARCHAR) AS label WHERE false'
)
_ROWS = """
    WITH labels AS ({labels}),
    answers AS (
        SELECT prediction_id, "row", count(*) AS times, min(struct_pack(asked := epoch_ms(time), score := {score})) AS first
        FROM read_parquet($predictions, union_by_name = true)
        WHERE arm IN ($stable, $canary) AND epoch_ms(time) >= $start AND epoch_ms(time) < $end
        GROUP BY prediction_id, "row"
    )
    SELECT first.asked AS asked, first.score AS score, times > 1 AS repeated, coalesce(label.observed < first.asked * 1000, false) AS early,
        (CASE WHEN label IS NULL THEN -1 WHEN label.class = $positive THEN 1
              WHEN list_contains($classes, label.class) THEN 0 ELSE -2 END)::TINYINT AS outcome
    FROM answers LEFT JOIN labels USING (prediction_id, "row") ORDER BY asked, prediction_id, "row"
"""
_LABELS = """
    WITH lines AS (SELECT prediction_id, "row", "class", value FROM read_parquet($feedback, union_by_name = true)),
    different AS (SELECT DISTINCT * FROM lines),
    labelled AS (SELECT DISTINCT prediction_id, "row" FROM lines)
    SELECT (SELECT count(*) FROM lines), (SELECT count(*) FROM different), (SELECT count(*) FROM labelled),
        (SELECT count(*) FROM labelled {known})
"""
_KNOWN = 'ANTI JOIN read_parquet($predictions, union_by_name = true) AS answers USING (prediction_id, "row")'


@dataclass(frozen=True)
class Logs:
    """The folders of the two logs; several daemons may write to each. Without `feedback` there are no labels."""

    predictions: Path
    feedback: Path | None


@dataclass(frozen=True)
class JoinedRows:
    """The rows that a version answered as production traffic, in order of time.

    `asked` is when, in milliseconds since 1970, int64 [n]; `score` the probability of the positive class, float64 [n], NaN where it is
    none; `outcome` POSITIVE, NEGATIVE, UNLABELLED or FOREIGN, int8 [n]. `repeated` counts rows answered more than once under one id, of
    which the first answer is here; `early` those whose label is older than the answer, as clocks differ.
    """

    asked: NDArray[np.int64]
    score: NDArray[np.float64]
    outcome: NDArray[np.int8]
    repeated: int = 0
    early: int = 0


@dataclass(frozen=True)
class LabelCounts:
    """The feedback log of a model, all of it.

    `duplicate` lines say of a row what another one says too, `replaced` ones what a later one contradicts; `unknown` counts labelled rows
    whose prediction is not in the log.
    """

    lines: int = 0
    duplicate: int = 0
    replaced: int = 0
    unknown: int = 0


def read_rows(logs: Logs, model: str, version: int, signature: Signature, start: dt.datetime, end: dt.datetime) -> JoinedRows:
    """The rows that `version` answered from `start` on and before `end`, joined with their labels.

    Raises:
        ScoreMissingError: if the log has no usable score of the positive class.
        LogUnreadableError, TooManyRowsError: if the files cannot be read, or hold too much for the memory allowed.
    """

    def read() -> JoinedRows:
        answers = _files(logs.predictions, f"model={_quoted(model)}/version={version}", start.date(), end.date())
        labels = _files(logs.feedback, f"model={_quoted(model)}")
        if not answers:
            return JoinedRows(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int8))
        with _reading() as connection:
            query = _ROWS.format(labels=_WINNERS if labels else _NO_LABELS, score=_score(connection, answers, signature))
            parameters = {
                "predictions": answers,
                "stable": STABLE,
                "canary": CANARY,
                "start": _milliseconds(start),
                "end": _milliseconds(end),
                "positive": signature.positive,
                "classes": list(signature.classes),
                **({"feedback": labels} if labels else {}),
            }
            return _joined(connection.execute(query, parameters).fetchnumpy())

    return _twice(read)


def count_labels(logs: Logs, model: str) -> LabelCounts:
    """What the feedback log of a model amounts to.

    Raises:
        LogUnreadableError, TooManyRowsError: as `read_rows`.
    """

    def read() -> LabelCounts:
        labels = _files(logs.feedback, f"model={_quoted(model)}")
        if not labels:
            return LabelCounts()
        answers = _files(logs.predictions, f"model={_quoted(model)}/version=*")
        query = _LABELS.format(known=_KNOWN if answers else "")
        with _reading() as connection:
            parameters = {"feedback": labels, **({"predictions": answers} if answers else {})}
            ((lines, different, labelled, unknown),) = connection.execute(query, parameters).fetchall()
        return LabelCounts(lines, lines - different, different - labelled, unknown)

    return _twice(read)


def _twice(read: Callable[[], T]) -> T:
    """What `read` returns; again if it fails, as retention may remove a file between its listing and its reading."""
    try:
        return read()
    except LogUnreadableError:
        return read()


def _files(root: Path | None, folder: str, first: dt.date = dt.date.min, last: dt.date = dt.date.max) -> list[str]:
    """The files of the days from `first` to `last`, as DuckDB takes them: it reads a name as a pattern."""
    if root is None:
        return []
    if not os.access(root, os.R_OK | os.X_OK):
        raise LogUnreadableError(f"{root} cannot be read: is it there, and may this program look into it?")
    days = (day for day in root.glob(f"{folder}/date=*") if first.isoformat() <= day.name.removeprefix("date=") <= last.isoformat())
    # One that is being written has no such ending yet.
    return sorted(glob.escape(str(path)) for day in days for path in day.glob("*.parquet"))


def _quoted(model: str) -> str:
    return glob.escape(quote(model, safe=""))


def _score(connection: duckdb.DuckDBPyConnection, files: Sequence[str], signature: Signature) -> str:
    """The SQL of the score: a column, or an element of a list; null and NaN where it is none."""
    query = "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet($predictions, union_by_name = true))"
    types = dict(connection.execute(query, {"predictions": list(files)}).fetchall())
    place = signature.classes.index(signature.positive)
    spec = next((spec for spec in signature.outputs if spec.shape[1:] == (len(signature.classes),)), None)
    if spec is None:
        raise ScoreMissingError("no output of this version has a probability for each class: its quality cannot be judged")
    named = len(spec.columns) == len(signature.classes)
    column = f"{spec.name}.{spec.columns[place]}" if named else spec.name
    column = next((name for name in (f"output.{column}", column) if name in types), column)
    expected = ("FLOAT", "DOUBLE") if named else ("FLOAT[]", "DOUBLE[]")
    if types.get(column) not in expected:
        found = "is not in the prediction log" if column not in types else f"is {types[column]} in the prediction log"
        raise ScoreMissingError(
            f"the score {column!r} {found}, so nothing can be judged: see --prediction-log-drop and --prediction-log-hash"
        )
    # A name cannot be a parameter. It comes from a registered signature, and is in quotes whatever it holds.
    quoted = '"' + column.replace('"', '""') + '"'
    return f"({quoted if named else f'{quoted}[{place + 1}]'})::DOUBLE"


def _joined(columns: Mapping[str, Any]) -> JoinedRows:
    score = np.ma.filled(np.ma.asarray(columns["score"], np.float64), np.nan)
    score[~((score >= 0) & (score <= 1))] = np.nan
    return JoinedRows(
        np.asarray(columns["asked"], np.int64),
        score,
        np.asarray(columns["outcome"], np.int8),
        int(np.sum(columns["repeated"])),
        int(np.sum(columns["early"])),
    )


@contextmanager
def _reading() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that only reads files, and whose failures are ours."""
    with duckdb.connect(":memory:", config=_CONFIG) as connection:
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise TooManyRowsError(f"more rows than fit into {MEMORY}: choose a shorter time with from and until") from error
        except duckdb.Error as error:
            raise LogUnreadableError(f"the logs cannot be read: {str(error).splitlines()[0]}") from error


def _milliseconds(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)
