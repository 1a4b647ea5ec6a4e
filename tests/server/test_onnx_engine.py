"""What ONNX Runtime gives through the seam, by datatype and by failure."""

import os

import numpy as np
import pytest
from onnx import TensorProto

from server import onnx_engine
from server.errors import ModelFailedError, NotServableError
from server.onnx_engine import OnnxEngine
from tests import models
from tests.graphs import graph


@pytest.mark.parametrize(
    ("elem_type", "values"),
    [
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.INT8, np.array([-128, 127], np.int8)),
        (TensorProto.UINT64, np.array([0, 2**64 - 1], np.uint64)),
        (TensorProto.FLOAT16, np.array([0.5, np.inf], np.float16)),
        (TensorProto.FLOAT, np.array([0.1, np.nan], np.float32)),
        (TensorProto.DOUBLE, np.array([0.1, -0.0])),
    ],
)
def test_every_datatype_passes_unchanged(elem_type: int, values: "np.ndarray[tuple[int], np.dtype[np.generic]]") -> None:
    got = OnnxEngine(models.echo(elem_type), threads=1).run({"x": values}, ["y"])["y"]
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


def test_text_passes_unchanged_and_what_is_no_text_fails() -> None:
    engine = OnnxEngine(models.echo(TensorProto.STRING), threads=1)
    texts = ["", "ü", "a\0b\0", "😀"]
    assert engine.run({"x": np.array(texts, object)}, ["y"])["y"].tolist() == texts
    with pytest.raises(ModelFailedError, match="surrogates"):
        engine.run({"x": np.array(["\ud800"], object)}, ["y"])


def test_only_models_with_one_free_first_dimension_of_inputs_may_be_batchable() -> None:
    assert OnnxEngine(models.scaled(2), threads=1).batchable
    assert not OnnxEngine(models.total(), threads=1).batchable
    two = "y = Neg (x) v = Neg (u)"
    assert OnnxEngine(graph("float[N] x, float[N] u) => (float[A] y, float[B] v", two), threads=1).batchable
    assert not OnnxEngine(graph("float[N] x, float[M] u) => (float[N] y, float[M] v", two), threads=1).batchable
    assert not OnnxEngine(graph(") => (float[2] y", "y = Constant <value = float[2] {1,2}> ()"), threads=1).batchable


def test_only_the_outputs_asked_for_come_and_in_that_order() -> None:
    engine = OnnxEngine(graph("float[N] x) => (float[N] a, float[N] b, float[N] c", "a = Neg (x) b = Abs (x) c = Exp (x)"), threads=1)
    got = engine.run({"x": np.array([-2], np.float32)}, ["b", "a"])
    assert [(name, tensor.tolist()) for name, tensor in got.items()] == [("b", [2]), ("a", [2])]


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("kind", ["string", "float"])
def test_tensors_without_dimensions_or_without_values_pass(shape: tuple[int, ...], kind: str) -> None:
    of = f"{kind}[{','.join(map(str, shape))}]" if shape else kind
    engine = OnnxEngine(graph(f"{of} x) => ({of} y", "y = Identity (x)"), threads=1)
    tensor = np.full(shape, "a", object) if kind == "string" else np.ones(shape, np.float32)
    got = engine.run({"x": tensor}, ["y"])["y"]
    assert (got.shape, got.tolist()) == (shape, tensor.tolist())


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": np.zeros(3)}, {"x": np.zeros((2, 2), np.float32)}, {"x": "no tensor"}, {"x": np.zeros(3, np.float32), "z": np.zeros(1)}],
)
def test_whatever_goes_wrong_is_one_short_line(inputs: "dict[str, np.ndarray[tuple[int], np.dtype[np.generic]]]") -> None:
    engine = OnnxEngine(models.echo(TensorProto.FLOAT), threads=1)
    with pytest.raises(ModelFailedError) as raised:
        engine.run(inputs, ["y"])
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)


def test_paths_of_the_build_are_not_told() -> None:
    told = (
        "Non-zero status code returned while running Reshape node. Status Message: "
        "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:30 onnxruntime::ReshapeHelper in node /model/head/Reshape"
    )
    shown = onnx_engine.one_line(RuntimeError(told))
    assert "onnxruntime_src" not in shown
    assert "/model/head/Reshape" in shown


def test_what_is_no_model_is_not_servable() -> None:
    with pytest.raises(NotServableError, match="cannot load the model"):
        OnnxEngine(b"not onnx", threads=1)


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
