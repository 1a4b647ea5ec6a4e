"""The batches of one version: what the Rust side calls to have one computed, and to tell whose rows it had."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from server.engine import DTYPES, Columns, Tensor, encoded
from server.errors import ModelFailedError
from server.loaded_version import LoadedVersion
from server.observed import LoggedBatch, LoggedRequest


class Runs:
    """Called by the thread of the version alone: `tell` is about what `run` ran last."""

    def __init__(self, version: LoadedVersion, log: Callable[[LoggedBatch], None] | None) -> None:
        self._version = version
        self._log = log
        self._engine = version.engine
        self._tensors = [(spec.name, DTYPES[spec.datatype]) for spec in version.signature.inputs]
        self._names = [spec.name for spec in version.signature.outputs]
        self._inputs: Columns = {}
        self._outputs: Columns = {}

    def run(self, columns: list[tuple[Any, list[int]]], places: list[int]) -> list[Tensor] | str:
        """The outputs at `places`, or why there are none, for memory and shape of each input; the memory of texts is a list of them.

        Answers are made of the memory of the outputs: nothing may change it any more.
        """
        tensors = zip(self._tensors, columns, strict=True)
        self._inputs = {name: _tensor(dtype, memory, shape) for (name, dtype), (memory, shape) in tensors}
        try:
            self._outputs = self._engine.run(self._inputs, [self._names[place] for place in places])
        except ModelFailedError as error:
            return str(error)
        return list(self._outputs.values())

    def tell(self, requests: list[tuple[str, str, float, int, int]]) -> None:
        """These requests, in order, had the rows of the last run: id, arm, seconds since it came, rows, and the number of the first."""
        if self._log is not None:
            now, version = time.time(), self._version
            logged = [LoggedRequest(name, arm, now - ago, rows, start) for name, arm, ago, rows, start in requests]
            rows = sum(request.rows for request in logged)
            self._log(
                LoggedBatch(version.model, version.number, version.signature, logged, rows, encoded(self._inputs), encoded(self._outputs))
            )


def _tensor(dtype: np.dtype[Any], memory: Any, shape: list[int]) -> Tensor:
    values = np.fromiter(memory, dtype, len(memory)) if dtype.hasobject else np.frombuffer(memory, dtype)
    return values.reshape(shape)
