"""Answered batches become Parquet: a table with one row for each row of the model. Pure, and the only module that imports pyarrow.

The queue is in `prediction_log`, the files are in `prediction_files`; the columns stand in docs/formats/prediction-log.md.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from registry.bundle import Signature, TensorSpec
from server.engine import Columns, Tensor

OWN_COLUMNS = ("prediction_id", "row", "model", "version", "arm", "time")
_RESERVED = {*OWN_COLUMNS, "date"}
HASH_BYTES = 16
_DAY_SECONDS = 86_400

Kind: TypeAlias = tuple[str, int, tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]]
"""Model, version, and name, dtype and shape of a row of every tensor: what batches in one table have in common."""


class LoggedRequest(Protocol):
    """What is logged of a request beside its rows; `received` is in seconds since 1970."""

    @property
    def id(self) -> str:
        """The prediction id."""
        ...

    @property
    def arm(self) -> str:
        """As which arm it was answered."""
        ...

    @property
    def received(self) -> float:
        """When it arrived, in seconds since 1970."""
        ...

    @property
    def rows(self) -> int:
        """How many of the batch's rows are its own."""
        ...


@dataclass(frozen=True)
class LoggedBatch:
    """Requests that one version answered in one run, and the tensors of that run: their rows are those of the requests, in order."""

    model: str
    version: int
    signature: Signature
    requests: Sequence[LoggedRequest]
    rows: int
    inputs: Columns
    outputs: Columns

    @property
    def size(self) -> int:
        """Bytes that it keeps alive, roughly."""
        return sum(_size(tensor) for tensors in (self.inputs, self.outputs) for tensor in tensors.values())

    @property
    def kind(self) -> Kind:
        """See `Kind`."""
        tensors = (*self.inputs.items(), *self.outputs.items())
        return self.model, self.version, tuple((name, tensor.dtype, tensor.shape[1:]) for name, tensor in tensors)


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


def by_date(batches: Sequence[LoggedBatch], share: float, privacy: Privacy) -> Iterator[tuple[str, pa.Table]]:
    """The chosen share of the rows of batches that are alike: a table for each day in UTC, with that day as YYYY-MM-DD."""
    requests = [request for batch in batches for request in batch.requests]
    kept = np.fromiter((share >= 1 or is_in_share(request.id, share) for request in requests), bool, len(requests))
    days = np.fromiter((request.received for request in requests), np.float64, len(requests)) // _DAY_SECONDS
    lengths = _lengths(batches, requests)
    rows = pa.table(dict(_columns(batches, requests, privacy)))
    for day in np.unique(days[kept]):
        wanted = np.repeat((days == day) & kept, lengths)
        yield str(np.datetime64(int(day), "D")), rows if wanted.all() else rows.filter(_numbers(wanted))


def encode(rows: pa.Table) -> pa.Buffer:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _size(tensor: Tensor) -> int:
    return tensor.size * 64 if tensor.dtype.hasobject else tensor.nbytes


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
    yield "prediction_id", _strings([request.id.encode() for request in requests]).take(_numbers(owner))
    yield "row", _numbers((np.arange(rows) - np.repeat(np.cumsum(lengths) - lengths, lengths)).astype(np.int32))
    yield "model", _strings([first.model.encode()]).take(_numbers(np.zeros(rows, np.int64)))
    yield "version", _numbers(np.full(rows, first.version, np.int32))
    yield "arm", _strings([request.arm.encode() for request in requests]).dictionary_encode().take(_numbers(owner))
    yield "time", _numbers((received * 1000).astype(np.int64)[owner]).cast(pa.timestamp("ms", tz="UTC"))
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
        offsets = np.arange(len(tensor) + 1, dtype=np.int32) * np.int32(width)
        flat = tensor.reshape(-1)
        yield spec.name, pa.ListArray.from_arrays(_numbers(offsets), _texts(flat) if flat.dtype == object else _numbers(flat))


def _values(values: Tensor) -> pa.Array:
    return _texts(values).dictionary_encode() if values.dtype == object else _numbers(values)


def _numbers(values: Tensor) -> pa.Array:
    # Not by pa.array, which imports pandas where it is installed, for seconds, to see whether it was given any of it.
    values = np.ascontiguousarray(values, np.float32 if values.dtype == np.float16 else None)
    raw = np.packbits(values, bitorder="little") if values.dtype == bool else values
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(raw)])


def _strings(values: Sequence[bytes]) -> pa.Array:
    """Raises pa.ArrowInvalid if one is not UTF-8."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers).cast(pa.string())


def _texts(values: Tensor) -> pa.Array:
    texts = values.tolist()
    try:
        return _strings(texts)
    except pa.ArrowInvalid:  # a caller's bytes need not be UTF-8
        return _strings([text.decode(errors="replace").encode() for text in texts])


def _hashes(values: Tensor, key: bytes) -> pa.Array:
    """HMAC-SHA256 of each value, the first 16 bytes in hex: of the bytes of a text, of the shortest decimal text of a number."""
    different, places = np.unique(values, return_inverse=True)
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in different]
    hashes = [hmac.digest(key, text, "sha256")[:HASH_BYTES].hex().encode() for text in texts]
    return pa.DictionaryArray.from_arrays(_numbers(places.astype(np.int32)), _strings(hashes))
