"""The batches of one version: what the Rust side calls to have one computed."""

from typing import Any

import numpy as np

from server.engine import DTYPES, WIRE_DTYPES, Tensor
from server.errors import ModelFailedError
from server.loaded_version import LoadedVersion


class Runs:
    """Called by the thread of the version alone."""

    def __init__(self, version: LoadedVersion) -> None:
        self._version = version
        self._names = [spec.name for spec in version.signature.outputs]

    def run(self, columns: list[tuple[Any, list[int]]], places: list[int]) -> list[tuple[tuple[int, ...], Any]] | str:
        """Shape and memory of the outputs at `places`, for memory and shape of each input, texts as lists; or why there are none.

        The memory of an output is its array: nothing may change it any more.
        """
        signature = self._version.signature
        inputs = {spec.name: _tensor(spec.datatype, *column) for spec, column in zip(signature.inputs, columns, strict=True)}
        try:
            computed = self._version.engine.run(inputs, [self._names[place] for place in places])
        except ModelFailedError as error:
            return str(error)
        outputs = zip(computed.values(), places, strict=True)
        return [(tensor.shape, _memory(signature.outputs[place].datatype, tensor)) for tensor, place in outputs]


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
