"""The batches of one version: what the Rust side calls to have one computed."""

from typing import Any

from server.engine import DTYPES, Tensor
from server.errors import ModelFailedError
from server.loaded_version import LoadedVersion
from server.native.tensors import tensor


class Runs:
    """Called by the thread of the version alone."""

    def __init__(self, version: LoadedVersion) -> None:
        self._engine = version.engine
        self._tensors = [(spec.name, DTYPES[spec.datatype]) for spec in version.signature.inputs]
        self._names = [spec.name for spec in version.signature.outputs]

    def run(self, columns: list[tuple[Any, list[int]]], places: list[int]) -> list[Tensor] | str:
        """The outputs at `places`, or why there are none, for memory and shape of each input; the memory of texts is a list of them.

        Answers are made of the memory of the outputs: nothing may change it any more.
        """
        tensors = zip(self._tensors, columns, strict=True)
        inputs = {name: tensor(dtype, memory, shape) for (name, dtype), (memory, shape) in tensors}
        try:
            return list(self._engine.run(inputs, [self._names[place] for place in places]).values())
        except ModelFailedError as error:
            return str(error)
