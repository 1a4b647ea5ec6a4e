"""ONNX Runtime behind the `Engine` seam: the only module of the daemon that imports it."""

import os
import re
from collections.abc import Sequence
from typing import Any

from registry.bundle import Signature, TensorSpec
from server.engine import Columns, Tensor
from server.errors import ModelFailedError, NotServableError

# Set before the import, else ONNX Runtime 1.32 writes a telemetry database under the user's cache folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

_SOURCE_FILES = re.compile(r"\S*[/\\]\S*\.(?:cc|cpp|cxx|cu|cuh|h|hpp|hxx|inl|py|so)\b(?:[.:]\d+)*:?")
"""Where in its own build ONNX Runtime raised an error: nothing to tell a caller."""
_LONGEST_TOLD = 500
"""Characters of an error of ONNX Runtime that are passed on."""


class OnnxEngine:
    """One ONNX model, loaded from the bytes that were hashed."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        """Load `model`; its runs use `threads` threads.

        Raises:
            NotServableError: if ONNX Runtime cannot load it, or it has inputs the protocol cannot carry.
        """
        try:
            self._session = ort.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
            # Of all runs: without it each makes one, a sixth of the time of a run of one row.
            self._run_options = ort.RunOptions()
        except Exception as error:  # onnxruntime raises a class of its own per status, with no common base
            raise NotServableError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.signature = Signature(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)))
        self.batchable = _batchable(inputs, outputs)

    def run(self, inputs: Columns, outputs: Sequence[str]) -> dict[str, Tensor]:
        """See `Engine.run`."""
        try:
            return dict(zip(outputs, self._session.run(outputs, inputs, self._run_options), strict=True))
        except Exception as error:  # the same
            raise ModelFailedError(f"the model failed on this input: {one_line(error)}") from error


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread burns the core that the transport needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Fatal only: what fails is told to whoever asked, and rows that a model refuses must not fill the daemon's log.
    options.log_severity_level = 4
    return options


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise NotServableError(f"{node.name} is a {node.type}, which the Open Inference Protocol cannot carry")
    return TensorSpec(node.name, _DATATYPES[node.type], tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape))


def _batchable(inputs: list[Any], outputs: list[Any]) -> bool:
    firsts = [node.shape[0] if node.shape else 0 for node in (*inputs, *outputs)]
    # Two names of inputs are two sizes; outputs often have one of their own, which an exporter made up.
    names = {first for first in firsts[: len(inputs)] if isinstance(first, str)}
    free = all(not isinstance(first, int) or first < 0 for first in firsts)
    return bool(inputs) and free and len(names) <= 1 and not _widened_by_others(inputs, outputs)


def _widened_by_others(inputs: list[Any], outputs: list[Any]) -> bool:
    """Whether the size of a row of an output may come of the values: split texts, say, are padded to the longest of all rows."""
    known = {size for node in inputs for size in node.shape[1:] if isinstance(size, str)}
    return any(not isinstance(size, int) and size not in known for node in outputs for size in node.shape[1:])


def one_line(error: Exception) -> str:
    """What ONNX Runtime says, in a line that a caller may read."""
    return " ".join(_SOURCE_FILES.sub("", str(error)).split())[:_LONGEST_TOLD] or type(error).__name__
