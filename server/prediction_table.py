"""Answered batches become Parquet: a table with one row for each row of the model. Pure.

The queue is in `prediction_log`, the files are in `log_files`; the columns stand in docs/formats/prediction-log.md.
"""

import hmac
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from registry.bundle import TensorSpec
from server.arrow import numbers, strings
from server.engine import Columns, Tensor
from server.observed import Kind, LoggedBatch, LoggedRequest

OWN_COLUMNS = ("prediction_id", "row", "model", "version", "arm", "time")
_RESERVED = {*OWN_COLUMNS, "date"}
HASH_BYTES = 16
_DAY_SECONDS = 86_400
_32_BITS = 0xFFFF_FFFF


@dataclass(frozen=True)
class Privacy:
    """Names of columns or tensors that are not logged, and of those of which only a keyed hash is."""

    drop: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    key: bytes = b""


def is_in_share(prediction_id: str, share: float) -> bool:
    """Whether a request is logged: the same answer in every process, as the id alone decides.

    By its CRC-32, as each request pays for it, through the last step of MurmurHash3 (Appleby, `fmix32`): by itself it spreads ids that
    differ little, as numbered ones do, too evenly or in bursts.
    """
    mixed = zlib.crc32(prediction_id.encode())
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _32_BITS
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _32_BITS
    return (mixed ^ mixed >> 16) < share * 2.0**32


def alike(batches: Iterable[LoggedBatch]) -> list[list[LoggedBatch]]:
    """The batches parted into those that share a table."""
    groups: dict[Kind, list[LoggedBatch]] = {}
    for batch in batches:
        groups.setdefault(batch.kind, []).append(batch)
    return list(groups.values())


def by_date(batches: Sequence[LoggedBatch], share: float, privacy: Privacy) -> Iterator[tuple[str, pa.Table]]:
    """The chosen share of the rows of batches that are alike: a table for each day in UTC, with that day as YYYY-MM-DD."""
    requests = [request for batch in batches for request in batch.requests]
    kept = np.fromiter((share >= 1 or is_in_share(request.id, share) for request in requests), bool, len(requests))
    days = np.fromiter((request.received for request in requests), np.float64, len(requests)) // _DAY_SECONDS
    lengths = _lengths(batches, requests)
    rows = pa.table(dict(_columns(batches, requests, privacy)))
    for day in np.unique(days[kept]):
        wanted = np.repeat((days == day) & kept, lengths)
        yield str(np.datetime64(int(day), "D")), rows if wanted.all() else rows.filter(numbers(wanted))


def _lengths(batches: Sequence[LoggedBatch], requests: Sequence[LoggedRequest]) -> NDArray[np.int64]:
    """How many rows of the table each request has: one, if the model does not keep rows apart."""
    if batches[0].has_rows:
        return np.fromiter((request.rows for request in requests), np.int64, len(requests))
    return np.ones(len(requests), np.int64)


def _columns(batches: Sequence[LoggedBatch], requests: Sequence[LoggedRequest], privacy: Privacy) -> Iterator[tuple[str, pa.Array]]:
    lengths = _lengths(batches, requests)
    rows = int(lengths.sum())
    owner = np.repeat(np.arange(len(requests)), lengths)
    first = batches[0]
    received = np.fromiter((request.received for request in requests), np.float64, len(requests))
    yield "prediction_id", strings([request.id.encode() for request in requests]).take(numbers(owner))
    starts = np.fromiter((request.start for request in requests), np.int64, len(requests))
    yield "row", numbers((np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths - starts, lengths)).astype(np.int32))
    yield "model", strings([first.model.encode()]).take(numbers(np.zeros(rows, np.int64)))
    yield "version", numbers(np.full(rows, first.version, np.int32))
    yield "arm", strings([request.arm.encode() for request in requests]).dictionary_encode().take(numbers(owner))
    yield "time", numbers((received * 1000).astype(np.int64)[owner]).cast(pa.timestamp("ms", tz="UTC"))
    taken = set(_RESERVED)
    for place, specs in (("input", first.signature.inputs), ("output", first.signature.outputs)):
        for spec in specs:
            tensors = [tensors[spec.name] for batch in batches if spec.name in (tensors := _of(batch, place))]
            if tensors and spec.name not in privacy.drop:
                for name, array in _tensor_columns(spec, _joined(tensors, first.has_rows), privacy, prefixed=place == "output"):
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
        offsets = np.arange(len(tensor) + 1, dtype=np.int32) * np.int32(width)
        flat = tensor.reshape(-1)
        yield spec.name, pa.ListArray.from_arrays(numbers(offsets), _texts(flat) if flat.dtype == object else numbers(flat))


def _values(values: Tensor) -> pa.Array:
    return _texts(values).dictionary_encode() if values.dtype == object else numbers(values)


def _texts(values: Tensor) -> pa.Array:
    texts = values.tolist()
    try:
        return strings(texts)
    except pa.ArrowInvalid:  # a caller's bytes need not be UTF-8
        return strings([text.decode(errors="replace").encode() for text in texts])


def _hashes(values: Tensor, key: bytes) -> pa.Array:
    """HMAC-SHA256 of each value, the first 16 bytes in hex: of the bytes of a text, of the shortest decimal text of a number."""
    different, places = np.unique(values, return_inverse=True)
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in different]
    hashes = [hmac.digest(key, text, "sha256")[:HASH_BYTES].hex().encode() for text in texts]
    return pa.DictionaryArray.from_arrays(numbers(places.astype(np.int32)), strings(hashes))
