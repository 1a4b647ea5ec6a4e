"""Small real ONNX models whose answers can be told in the head, and bundles of them. No test lives here."""

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.drift_limits import DEFAULT_LIMITS, Limits
from registry.profile import Profile, categorical_feature, numeric_feature
from registry.registry import Registry
from server.onnx_engine import OnnxEngine

COLUMNS = ("a", "b", "c")
CLASSES = ("no", "yes")


def scaled(factor: float, width: int = 3) -> bytes:
    """`numeric` FP32 [-1, width] -> `scaled`: every value times `factor`, so that an answer tells which version gave it."""
    constant = numpy_helper.from_array(np.array([factor], np.float32), "factor")
    node = helper.make_node("Mul", ["numeric", "factor"], ["scaled"])
    return _model(
        [node], [_info("numeric", TensorProto.FLOAT, [None, width])], [_info("scaled", TensorProto.FLOAT, [None, width])], [constant]
    )


def slow(rounds: int) -> bytes:
    """`numeric` FP32 [-1, 3] -> `scaled`: the values doubled, after a loop of `rounds` rounds that takes a few microseconds each."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Sin", ["carried"], ["next"]),
        ],
        "body",
        [_info("round", TensorProto.INT64, []), _info("going", TensorProto.BOOL, []), _info("carried", TensorProto.FLOAT, [None, 3])],
        [_info("goes_on", TensorProto.BOOL, []), _info("next", TensorProto.FLOAT, [None, 3])],
    )
    constants = [
        numpy_helper.from_array(np.array(rounds, np.int64), "rounds"),
        numpy_helper.from_array(np.array(True), "true"),  # noqa: FBT003 -- numpy's signature
        numpy_helper.from_array(np.array([0], np.float32), "zero"),
        numpy_helper.from_array(np.array([2], np.float32), "two"),
    ]
    nodes = [
        helper.make_node("Loop", ["rounds", "true", "numeric"], ["spun"], body=body),
        helper.make_node("Mul", ["spun", "zero"], ["nothing"]),
        helper.make_node("Mul", ["numeric", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "nothing"], ["scaled"]),
    ]
    shape = [None, 3]
    return _model(nodes, [_info("numeric", TensorProto.FLOAT, shape)], [_info("scaled", TensorProto.FLOAT, shape)], constants)


def lookup() -> bytes:
    """`index` INT64 [-1] -> `value` FP32 [-1] of a table of ten: fails on an index outside it, and with it the whole run."""
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32) * 10, "table")
    node = helper.make_node("Gather", ["table", "index"], ["value"])
    return _model([node], [_info("index", TensorProto.INT64, [None])], [_info("value", TensorProto.FLOAT, [None])], [table])


def total() -> bytes:
    """`numbers` FP32 [4] -> `total` FP32 []: no row dimension at all."""
    node = helper.make_node("ReduceSum", ["numbers"], ["total"], keepdims=0)
    return _model([node], [_info("numbers", TensorProto.FLOAT, [4])], [_info("total", TensorProto.FLOAT, [])])


def echo(elem_type: int) -> bytes:
    """`x` [-1] -> `y`, the same values, of any element type."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _model([node], [_info("x", elem_type, [None])], [_info("y", elem_type, [None])])


def texts() -> bytes:
    """`x` BYTES [-1] -> `y`, the same texts."""
    return echo(TensorProto.STRING)


def wide() -> bytes:
    """`x` FP32 [-1, -1] -> `y`, the same values: rows of any width, which may share runs."""
    node = helper.make_node("Identity", ["x"], ["y"])
    shape: list[int | str | None] = ["rows", "width"]
    return _model([node], [_info("x", TensorProto.FLOAT, shape)], [_info("y", TensorProto.FLOAT, shape)])


def classifier(weight: float) -> bytes:
    """`numeric` FP32 [-1, 3] and `categorical` BYTES [-1, 1] -> `probabilities` [-1, 2]: sigmoid of `weight` times the first column."""
    initializers = [
        numpy_helper.from_array(np.array([[weight], [0], [0]], np.float32), "weights"),
        numpy_helper.from_array(np.array([1], np.float32), "one"),
    ]
    nodes = [
        helper.make_node("MatMul", ["numeric", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["categorical"], ["echo"]),
    ]
    inputs = [_info("numeric", TensorProto.FLOAT, [None, 3]), _info("categorical", TensorProto.STRING, [None, 1])]
    outputs = [_info("probabilities", TensorProto.FLOAT, [None, 2]), _info("echo", TensorProto.STRING, [None, 1])]
    return _model(nodes, inputs, outputs, initializers)


def register_scaled(registry: Registry, model: str, factor: float) -> int:
    """Register `scaled(factor)` with golden rows."""
    numeric = np.array([[1, 2, 3], [-1, 0, 0.5]], np.float32)
    signature = Signature((TensorSpec("numeric", "FP32", (-1, 3), COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))
    files = {
        bundle.MODEL: scaled(factor),
        bundle.SIGNATURE: signature.encode(),
        bundle.GOLDEN: golden({"input.numeric": numeric, "output.scaled": numeric * np.float32(factor)}),
    }
    return registry.register(model, files, {}, actor="test", reason=f"times {factor}")


def register_classifier(
    registry: Registry,
    model: str,
    weight: float,
    reference: NDArray[np.float32],
    texts: list[str],
    limits: Limits = DEFAULT_LIMITS,
    more: Mapping[str, bytes] = MappingProxyType({}),
) -> int:
    """Register `classifier(weight)` with the profile of `reference` [n, 3] and `texts` [n], judged by `limits`, and `more` files."""
    signature = Signature(
        (TensorSpec("numeric", "FP32", (-1, 3), COLUMNS), TensorSpec("categorical", "BYTES", (-1, 1), ("kind",))),
        (TensorSpec("probabilities", "FP32", (-1, 2), CLASSES), TensorSpec("echo", "BYTES", (-1, 1))),
        CLASSES,
        "yes",
    )
    rows = {"numeric": reference, "categorical": np.array([[text] for text in texts], object)}
    # From the model that will serve: numpy's sigmoid differs in the last bit, which moves a value that is itself an edge.
    score = OnnxEngine(classifier(weight), threads=1).run(rows, ["probabilities"])["probabilities"][:, 1]
    profile = Profile(
        rows=len(reference),
        inputs=(*(numeric_feature(name, reference[:, place]) for place, name in enumerate(COLUMNS)), categorical_feature("kind", texts)),
        predictions=(numeric_feature("score", score), categorical_feature("class", [CLASSES[int(value > 0.5)] for value in score])),
        limits=limits,
    )
    files = {bundle.MODEL: classifier(weight), bundle.SIGNATURE: signature.encode(), bundle.PROFILE: profile.encode(), **more}
    return registry.register(model, files, {}, actor="test", reason=f"weight {weight}")


def golden(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """The bytes of golden.npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _info(name: str, elem_type: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto] | None = None,
) -> bytes:
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
