"""`tidegate feedback`: labels of a file to the daemon by the SDK. Reading the file is for `rows`, judging labels for the daemon."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.cli import options, output
from clients.cli.client_errors import daemon_at
from clients.cli.errors import InputError, RefusedError
from clients.cli.options import Address, AsJson, ClientCert, ClientKey, Model, TlsCa, TokenFile
from clients.cli.rows import Table, read_table
from registry.times import parse_time
from tidegate_client import Client, Label, Receipt

_BATCH_LABELS = 5000
"""Of one call: a daemon takes 10,000, and writes a file for each call."""
_SHOWN = 10
_COLUMNS = {"prediction_id", "row", "label", "observed"}


def feedback(
    model: Model,
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="CSV, JSON, JSON Lines or Parquet with prediction_id, label and, if need be, row and observed.",
            show_default=False,
        ),
    ],
    address: Address = options.DEFAULT_DAEMON,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Tell the daemon what turned out to be true of rows it predicted.

    `row` counts from 0 in the request (0 if left out); `observed` is when it was known, ISO 8601 or seconds since 1970 (now if left out).
    A file may be sent again: a label that is known already changes nothing. Exit code 1 if any label was refused; the others are kept.

    \b
    Example:
      tidegate feedback churn --labels outcomes.csv
    """
    table = read_table(labels, {"row"})
    with daemon_at(address, token_file, tls_ca, client_cert, client_key) as client:
        parsed = list(_labels(table, labels, has_classes=bool(client.metadata(model).classes)))
        receipt = _sent(client, model, parsed)
    if as_json:
        output.write_json({"model": model, **asdict(receipt)})
    else:
        output.write_line(f"{receipt.recorded} labels recorded, {receipt.duplicate} duplicate, {receipt.refused} refused")
        for refusal in receipt.refusals[:_SHOWN]:
            output.write_line(f"row {refusal.index + 1}: {refusal.reason}")
    if receipt.refused:
        raise RefusedError(f"{receipt.refused} of {len(parsed)} labels in {labels} were refused; the others are kept")


def _sent(client: Client, model: str, labels: list[Label]) -> Receipt:
    total = Receipt(0, 0, 0, ())
    with output.progress("sending") as progress:
        for start in range(0, len(labels), _BATCH_LABELS):
            progress(start, len(labels))
            part = client.feedback(model, labels[start : start + _BATCH_LABELS])
            moved = tuple(replace(refusal, index=refusal.index + start) for refusal in part.refusals)
            total = Receipt(
                total.recorded + part.recorded, total.duplicate + part.duplicate, total.refused + part.refused, total.refusals + moved
            )
    return total


def _labels(table: Table, path: Path, *, has_classes: bool) -> Iterator[Label]:
    if unknown := sorted(set(table) - _COLUMNS) or sorted({"prediction_id", "label"} - set(table)):
        raise InputError(f"{path}: unknown or missing column {unknown[0]!r}; expected prediction_id, label, and if need be row, observed")
    count = len(table["label"])
    if not count:
        raise InputError(f"{path} has no rows")
    for place in range(count):
        cells = {name: values[place] for name, values in table.items()}
        try:
            yield _label(cells, has_classes=has_classes)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}: row {place + 1}: {error}") from error


def _label(cells: Mapping[str, Any], *, has_classes: bool) -> Label:
    prediction_id, label, row = cells["prediction_id"], cells["label"], cells.get("row")
    if prediction_id is None or label is None:
        raise ValueError("prediction_id and label may not be empty")
    number = 0.0 if row is None else float(row)
    if not number.is_integer():
        raise ValueError(f"row is {row!r}, no whole number")
    return Label(str(prediction_id), _class(label) if has_classes else float(label), int(number), _observed(cells.get("observed")))


def _class(label: object) -> str:
    """The name of a class: one that is a whole number comes as such from Parquet and JSON, or with a point where others are missing."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _observed(cell: object) -> datetime | float | None:
    match cell:
        case None:
            return None
        case int() | float():
            return float(cell)
        case datetime():
            return cell if cell.tzinfo else cell.replace(tzinfo=UTC)
        case str():
            return float(cell) if cell.replace(".", "", 1).isdigit() else parse_time(cell)
        case _:
            raise ValueError(f"observed is {cell!r}, no time")
