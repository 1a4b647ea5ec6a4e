"""`tidegate predict`: rows of a file to the daemon by the SDK, and what the model answers to each. Reading the file is for `rows`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from clients.cli import options, output
from clients.cli.client_errors import daemon_at
from clients.cli.errors import InputError
from clients.cli.options import Address, AsJson, ClientCert, ClientKey, Model, TlsCa, TokenFile
from clients.cli.rows import Table, read_table
from registry.canonical import Json, JsonObject, finite
from tidegate_client import Prediction

_BATCH_ROWS = 1000
"""Rows of one request: far below the largest message, and enough that the round trip does not count."""


def predict(
    model: Model,
    rows: Annotated[
        Path, typer.Option("--rows", metavar="FILE", help="CSV, JSON, JSON Lines or Parquet with the model's columns.", show_default=False)
    ],
    address: Address = options.DEFAULT_DAEMON,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="A number, staging or production.")] = "",
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Ask the daemon for a prediction of each row of a file.

    Without --version the production route answers. Each row names the version that answered and the prediction id of its request.

    \b
    Examples:
      tidegate predict churn --rows customers.csv
      tidegate predict churn --rows customers.parquet --version staging --json
    """
    with daemon_at(address, token_file, tls_ca, client_cert, client_key) as client:
        columns = client.metadata(model, version).columns
        table = read_table(rows, columns.numeric if columns else ())
        answers = [row for part in _parts(table, rows) for row in answered(client.predict(model, part, version=version))]
    if as_json:
        output.write_json({"model": model, "rows": answers})
    else:
        output.write_table(list(answers[0]), [[output.cell(value) for value in row.values()] for row in answers])


def answered(prediction: Prediction) -> Iterator[JsonObject]:
    """One object per row: version, id, and each output; an output of several columns becomes `<output>_<class>`, or `_<number>`."""
    rows = max(len(np.atleast_1d(values)) for values in prediction.outputs.values())
    for row in range(rows):
        cells: dict[str, Json] = {"version": prediction.version, "id": prediction.id}
        for name, values in prediction.outputs.items():
            cells.update(_cells(name, np.atleast_1d(values)[row], prediction.classes))
        yield cells


def _parts(table: Table, path: Path) -> Iterator[Table]:
    rows = max(map(len, table.values()), default=0)
    if not rows:
        raise InputError(f"{path} has no rows")
    for start in range(0, rows, _BATCH_ROWS):
        yield {name: values[start : start + _BATCH_ROWS] for name, values in table.items()}


def _cells(name: str, value: object, classes: tuple[str, ...]) -> Iterator[tuple[str, Json]]:
    found = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value  # text comes as Python's own
    values = found if isinstance(found, list) else [found]
    if len(values) == 1:
        yield name, _json(values[0])
        return
    labels = classes if len(classes) == len(values) else tuple(map(str, range(len(values))))
    for label, item in zip(labels, values, strict=True):
        yield f"{name}_{label}", _json(item)


def _json(value: object) -> Json:
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float):
        return finite(value)
    return value if isinstance(value, (bool, int, str)) else str(value)
