"""The batches of one version: what the Rust side calls to have one computed, and to tell whose rows it had."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from server.engine import DTYPES, WIRE_DTYPES, Columns, Tensor
from server.errors import ModelFailedError
from server.loaded_version import LoadedVersion
from server.observed import LoggedBatch, LoggedRequest


class Runs:
    """Called by the thread of the version alone: `tell` is about what `run` ran last."""

    def __init__(self, version: LoadedVersion, log: Callable[[LoggedBatch], None] | None) -> None:
        self._version = version
        self._log = log
        self._names = [spec.name for spec in version.signature.outputs]
        self._inputs: Columns = {}
        self._outputs: Columns = {}

    def run(self, columns: list[tuple[Any, list[int]]], places: list[int]) -> list[tuple[tuple[int, ...], Any]] | str:
        """Shape and memory of the outputs at `places`, for memory and shape of each input, texts as lists; or why there are none.

        The memory of an output is its array: nothing may change it any more.
        """
        signature = self._version.signature
        self._inputs = {spec.name: _tensor(spec.datatype, *column) for spec, column in zip(signature.inputs, columns, strict=True)}
        try:
            self._outputs = self._version.engine.run(self._inputs, [self._names[place] for place in places])
        except ModelFailedError as error:
            return str(error)
        outputs = zip(self._outputs.values(), places, strict=True)
        return [(tensor.shape, _memory(signature.outputs[place].datatype, tensor)) for tensor, place in outputs]

    def tell(self, requests: list[tuple[str, str, float, int, int]]) -> None:
        """These requests, in order, had the rows of the last run: id, arm, seconds since it came, rows, and the number of the first."""
        if self._log is not None:
            now, version = time.time(), self._version
            logged = [LoggedRequest(name, arm, now - ago, rows, start) for name, arm, ago, rows, start in requests]
            rows = sum(request.rows for request in logged)
            self._log(LoggedBatch(version.model, version.number, version.signature, logged, rows, self._inputs, self._outputs))


def _memory(datatype: str, tensor: Tensor) -> Any:
    if datatype == "BYTES":
        return tensor.ravel().tolist()
    return np.ascontiguousarray(tensor, WIRE_DTYPES[datatype])


def _tensor(datatype: str, memory: Any, shape: list[int]) -> Tensor:
    if datatype == "BYTES":
        tensor = np.empty(len(memory), dtype=object)
        tensor[:] = memory
        return tensor.reshape(shape)
    return np.frombuffer(memory, DTYPES[datatype]).reshape(shape)
