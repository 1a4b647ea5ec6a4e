"""Answered batches become Parquet: a table with one row for each row of the model. Pure, and the only module that imports pyarrow.

The queue is in `prediction_log`, the files are in `prediction_files`; the columns stand in docs/formats/prediction-log.md.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from registry.bundle import TensorSpec
from server.engine import Columns, Tensor
from server.observed import Kind, LoggedBatch, LoggedRequest

OWN_COLUMNS = ("prediction_id", "row", "model", "version", "arm", "time")
_RESERVED = {*OWN_COLUMNS, "date"}
HASH_BYTES = 16
_DAY_MILLISECONDS = 86_400_000


@dataclass(frozen=True)
class Privacy:
    """Names of columns or tensors that are not logged, and of those of which only a keyed hash is."""

    drop: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    key: bytes = b""


def is_in_share(prediction_id: str, share: float) -> bool:
    """Whether a request is logged: the same answer in every process, as the id alone decides."""
    return int.from_bytes(hashlib.sha256(prediction_id.encode()).digest()[:8]) < share * 2.0**64


def alike(batches: Iterable[LoggedBatch]) -> list[list[LoggedBatch]]:
    """The batches parted into those that share a table."""
    groups: dict[Kind, list[LoggedBatch]] = {}
    for batch in batches:
        groups.setdefault(batch.kind, []).append(batch)
    return list(groups.values())


def table(batches: Sequence[LoggedBatch], share: float, privacy: Privacy) -> pa.Table:
    """The chosen share of the rows of batches that are alike."""
    requests = [request for batch in batches for request in batch.requests]
    rows = pa.table(dict(_columns(batches, requests, privacy)))
    if share < 1:
        kept = np.fromiter((is_in_share(request.id, share) for request in requests), bool, len(requests))
        rows = rows.filter(pa.array(np.repeat(kept, _lengths(batches, requests))))
    return rows


def by_date(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day, in UTC, with that day as YYYY-MM-DD."""
    days = rows["time"].cast(pa.int64()).to_numpy() // _DAY_MILLISECONDS
    for day in np.unique(days):
        yield str(np.datetime64(int(day), "D")), rows.filter(pa.array(days == day))


def encode(rows: pa.Table) -> pa.Buffer:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _lengths(batches: Sequence[LoggedBatch], requests: Sequence[LoggedRequest]) -> NDArray[np.int64]:
    """How many rows of the table each request has: one, if the model does not keep rows apart."""
    if _has_rows(batches[0]):
        return np.fromiter((request.rows for request in requests), np.int64, len(requests))
    return np.ones(len(requests), np.int64)


def _has_rows(batch: LoggedBatch) -> bool:
    return all(tensor.ndim and len(tensor) == batch.rows for tensors in (batch.inputs, batch.outputs) for tensor in tensors.values())


def _columns(batches: Sequence[LoggedBatch], requests: Sequence[LoggedRequest], privacy: Privacy) -> Iterator[tuple[str, pa.Array]]:
    lengths = _lengths(batches, requests)
    rows = int(lengths.sum())
    owner = np.repeat(np.arange(len(requests)), lengths)
    first = batches[0]
    received = np.fromiter((request.received for request in requests), np.float64, len(requests))
    yield "prediction_id", pa.array([request.id for request in requests], pa.string()).take(pa.array(owner))
    starts = np.fromiter((request.start for request in requests), np.int64, len(requests))
    yield "row", pa.array((np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)).astype(np.int32))
    yield "model", pa.repeat(first.model, rows)
    yield "version", pa.array(np.full(rows, first.version, np.int32))
    yield "arm", pa.array([request.arm for request in requests], pa.string()).dictionary_encode().take(pa.array(owner))
    yield "time", pa.array((received * 1000).astype(np.int64)[owner]).cast(pa.timestamp("ms", tz="UTC"))
    taken = set(_RESERVED)
    for place, specs in (("input", first.signature.inputs), ("output", first.signature.outputs)):
        for spec in specs:
            tensors = [tensors[spec.name] for batch in batches if spec.name in (tensors := _of(batch, place))]
            if tensors and spec.name not in privacy.drop:
                for name, array in _tensor_columns(spec, _joined(tensors, _has_rows(first)), privacy, prefixed=place == "output"):
                    free = name if name.casefold() not in taken else f"{place}.{name}"
                    taken.add(free.casefold())
                    yield free, array


def _of(batch: LoggedBatch, place: str) -> Columns:
    return batch.inputs if place == "input" else batch.outputs


def _joined(tensors: list[Tensor], has_rows: bool) -> Tensor:  # noqa: FBT001 -- private
    return np.concatenate(tensors) if has_rows else np.stack(tensors)


def _tensor_columns(spec: TensorSpec, tensor: Tensor, privacy: Privacy, *, prefixed: bool) -> Iterator[tuple[str, pa.Array]]:
    """A column for each named one of a packed tensor, else one for the tensor; `prefixed` puts the tensor's name before a column's."""
    if tensor.ndim == 2 and len(spec.columns) == tensor.shape[1]:  # noqa: PLR2004 -- rows and columns
        for place, column in enumerate(spec.columns):
            name = f"{spec.name}.{column}" if prefixed else column
            if not privacy.drop & {name, column}:
                hashed = bool(privacy.hashed & {name, column, spec.name})
                yield name, _hashes(tensor[:, place], privacy.key) if hashed else _values(tensor[:, place])
    elif spec.name in privacy.hashed:
        if tensor.ndim == 1:  # of lists nothing is logged rather than too much
            yield spec.name, _hashes(tensor, privacy.key)
    elif tensor.ndim == 1:
        yield spec.name, _values(tensor)
    else:
        width = int(np.prod(tensor.shape[1:]))
        offsets = np.arange(len(tensor) + 1, dtype=np.int32) * width
        yield spec.name, pa.ListArray.from_arrays(pa.array(offsets), _values(tensor.reshape(-1), texts=pa.string()))


def _values(values: Tensor, texts: Any = None) -> pa.Array:
    if values.dtype == object:
        text = _texts(values)
        return text if texts is not None else text.dictionary_encode()
    return pa.array(np.ascontiguousarray(values, np.float32 if values.dtype == np.float16 else None))


def _texts(values: Tensor) -> pa.Array:
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # a caller's bytes need not be UTF-8
        return pa.array([value.decode(errors="replace") for value in values], pa.string())


def _hashes(values: Tensor, key: bytes) -> pa.Array:
    """HMAC-SHA256 of each value, the first 16 bytes in hex: of the bytes of a text, of the shortest decimal text of a number."""
    different, places = np.unique(values, return_inverse=True)
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in different]
    hashes = [hmac.digest(key, text, "sha256")[:HASH_BYTES].hex() for text in texts]
    return pa.DictionaryArray.from_arrays(places.astype(np.int32), pa.array(hashes, pa.string()))
