"""What observers of the traffic are told, beside the counters: values, without what writes or sends them.

The prediction log is told of batches, the tracer of calls; both after the answer, so that nothing they do is on its path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from registry.bundle import Signature
from server.engine import TEXT_BYTES, Columns, Tensor

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
Kind: TypeAlias = tuple[str, int, bool, tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]]
"""Model, version, whether tensors have rows, and name, dtype and shape of each, or of a row of it: what batches in one table share."""


class LoggedRequest(NamedTuple):
    """What is logged of a request beside its rows.

    `received` is in seconds since 1970; `rows` of the batch are its own, and `start` is the number of the first of them in the request.
    """

    id: str
    arm: str
    received: float
    rows: int
    start: int = 0


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
        tensors = sum(_size(tensor) for columns in (self.inputs, self.outputs) for tensor in columns.values())
        return tensors + sum(len(request.id) for request in self.requests)

    @property
    def kind(self) -> Kind:
        """See `Kind`."""
        tensors, has_rows = (*self.inputs.items(), *self.outputs.items()), self.has_rows
        shapes = tuple((name, tensor.dtype, tensor.shape[1:] if has_rows else tensor.shape) for name, tensor in tensors)
        return self.model, self.version, has_rows, shapes

    @property
    def has_rows(self) -> bool:
        """Whether every tensor holds the rows one after the other; else it is of a model that keeps no rows apart."""
        return all(tensor.ndim and len(tensor) == self.rows for tensors in (self.inputs, self.outputs) for tensor in tensors.values())


@dataclass(frozen=True)
class TracedCall:
    """A ModelInfer that has its answer. Times are in seconds of `time.perf_counter`; those of steps that were not reached are None.

    `version` is 0 and `arm` empty where the request was refused before a version was chosen. `code` is the gRPC status name.
    """

    model: str
    version: int
    arm: str
    code: str
    rows: int
    started: float
    ended: float
    queued: float | None = None
    computing: float | None = None
    computed: float | None = None
    batch_rows: int = 0


def _size(tensor: Tensor) -> int:
    if tensor.dtype != object:
        return tensor.nbytes
    return tensor.size * TEXT_BYTES + sum(map(len, tensor.ravel().tolist()))


@dataclass(frozen=True)
class Observers:
    """Who is told; None where nobody asked for it. Both are called on threads that serve, and must not wait.

    `share` is what `batch` keeps of the requests, as `prediction_table.is_in_share` chooses them: it need not be told of others.
    """

    batch: Callable[[LoggedBatch], None] | None = None
    share: float = 1.0
    call: Callable[[Metadata, TracedCall], None] | None = None
