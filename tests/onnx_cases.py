"""The cases that the ONNX project checks backends with, as installed with `onnx`: models of one operator or a few, and what they give.

No test lives here.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A model, its inputs by name, the outputs expected, and how near they have to come.

    Texts are arrays of `bytes`. A value that is no tensor (a sequence, an optional) is whatever `onnx` has for it, or None.
    """

    name: str
    model: bytes
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    rtol: float
    atol: float

    def difference(self, outputs: Mapping[str, Array]) -> str:
        """How `outputs` are not what is expected, in one line; empty if they are."""
        if outputs.keys() != self.outputs.keys():
            return f"expected the outputs {sorted(self.outputs)}, got {sorted(outputs)}"
        return next((f"{name}: {what}" for name in outputs if (what := self._difference(self.outputs[name], outputs[name]))), "")

    def _difference(self, expected: Array, got: Array) -> str:
        if expected.shape != got.shape:
            return f"expected the shape {expected.shape}, got {got.shape}"
        if expected.dtype != got.dtype:
            return f"expected {expected.dtype}, got {got.dtype}"
        if expected.dtype == object:
            return "" if expected.tolist() == got.tolist() else f"expected {expected.tolist()}, got {got.tolist()}"
        try:
            np.testing.assert_allclose(got, expected, self.rtol, self.atol)
        except AssertionError as error:
            return " ".join(str(error).split())
        return ""


def with_free_rows(case: Case) -> bytes | None:
    """The case's model with the first dimension of every tensor freed, as the same one; None if a tensor has no dimension."""
    model = onnx.ModelProto.FromString(case.model)
    for spec in (*_inputs(model), *model.graph.output):
        if not spec.type.HasField("tensor_type") or not spec.type.tensor_type.shape.dim:
            return None
        size = spec.type.tensor_type.shape.dim[0]
        size.Clear()
        size.dim_param = "rows"
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def cases() -> list[Case]:
    """Every case of one operator and of a few, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # their reference computes infinities on purpose
        found = load_model_tests(kind="node")
    return sorted([*map(_made, found), *map(_stored, load_model_tests(kind="simple"))], key=lambda case: case.name)


def _made(case: Any) -> Case:
    return _case(case, case.model, *case.data_sets[0])


def _stored(case: Any) -> Case:
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    inputs, outputs = (
        [_tensor(folder / "test_data_set_0" / f"{kind}_{place}.pb", spec) for place, spec in enumerate(specs)]
        for kind, specs in (("input", _inputs(model)), ("output", model.graph.output))
    )
    return _case(case, model, inputs, outputs)


def _tensor(file: Path, spec: onnx.ValueInfoProto) -> Array | None:
    return numpy_helper.to_array(onnx.load_tensor(file)) if spec.type.HasField("tensor_type") else None


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [spec for spec in model.graph.input if spec.name not in constants]


def _case(case: Any, model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any]) -> Case:
    return Case(
        case.name,
        bytes(model.SerializeToString()),
        {spec.name: _value(value) for spec, value in zip(_inputs(model), inputs, strict=True)},
        {spec.name: _value(value) for spec, value in zip(model.graph.output, outputs, strict=True)},
        case.rtol,
        case.atol,
    )


def _value(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    tensor = np.asarray(value)
    return _texts(tensor) if tensor.dtype.kind in "OU" else tensor


def _texts(tensor: Array) -> Array:
    texts = np.empty(tensor.shape, object)
    texts.ravel()[:] = [text.encode() if isinstance(text, str) else text for text in tensor.ravel()]
    return texts
