"""Values become Arrow columns, and a table the bytes of a Parquet file. Which columns a log has is for its own table to say.

Not by pa.array, which imports pandas where it is installed, for seconds, to see whether it was given any of it.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from server.engine import Tensor


def numbers(values: Tensor, present: NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of numbers or flags; null where `present` says so. FP16 becomes float32."""
    values = np.ascontiguousarray(values, np.float32 if values.dtype == np.float16 else None)
    raw = np.packbits(values, bitorder="little") if values.dtype == bool else values
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [_validity(present), pa.py_buffer(raw)])


def strings(values: Sequence[bytes], present: NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of texts; null where `present` says so. Raises pa.ArrowInvalid if one is not UTF-8."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    buffers = [_validity(present), pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers).cast(pa.string())


def encode(rows: pa.Table) -> pa.Buffer:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _validity(present: NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
