"""What Rust kept of the batches of a version for the prediction log, as the log takes it."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from registry.bundle import TensorSpec
from server.engine import DTYPES, Columns
from server.loaded_version import LoadedVersion
from server.native.tensors import tensor
from server.observed import LoggedBatch, LoggedRequest

_Request: TypeAlias = tuple[str, str, float, int, int]
"""Id, arm, seconds since it came, rows, and the number of the first of them."""
_Tensor: TypeAlias = tuple[Any, Sequence[int]]
"""Memory, texts as a list, and shape."""
_Batch: TypeAlias = tuple[Sequence[_Request], Sequence[_Tensor], Sequence[int], Sequence[_Tensor]]
"""Requests, inputs, the places of the outputs that were computed, and these."""


def tell(version: LoadedVersion, log: Callable[[LoggedBatch], None], batches: Iterable[_Batch]) -> None:
    """These requests have been answered by `version`, and are in the share that is logged."""
    now, signature = time.time(), version.signature
    for requests, inputs, places, outputs in batches:
        logged = [LoggedRequest(name, arm, now - ago, rows, start) for name, arm, ago, rows, start in requests]
        rows = sum(request.rows for request in logged)
        given, computed = _columns(signature.inputs, inputs), _columns([signature.outputs[place] for place in places], outputs)
        log(LoggedBatch(version.model, version.number, signature, logged, rows, given, computed))


def _columns(specs: Sequence[TensorSpec], tensors: Sequence[_Tensor]) -> Columns:
    return {spec.name: tensor(DTYPES[spec.datatype], memory, shape) for spec, (memory, shape) in zip(specs, tensors, strict=True)}
