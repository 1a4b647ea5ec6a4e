"""Small real ONNX models written as text, for what `models` has no function for. No test lives here."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser


def graph(signature: str, body: str) -> bytes:
    """The model of one graph, e.g. `graph("float[N,3] x) => (float[N,3] y", "y = Softmax <axis = 0> (x)")`."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>\ntest ({signature}) {{ {body} }}')
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def dense(weights: NDArray[np.float32]) -> bytes:
    """`x` FP32 [-1, n] -> `y` FP32 [-1, m]: one layer of `weights` [n, m], as large as they are."""
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    tensors = [
        helper.make_tensor_value_info(*spec) for spec in zip("xy", [TensorProto.FLOAT] * 2, [["N", n] for n in weights.shape], strict=True)
    ]
    made = helper.make_graph([node], "dense", tensors[:1], tensors[1:], [numpy_helper.from_array(weights, "weights")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


ROWS_TO_ROWS = "float[N,3] x) => (float[N,3] y"

MIXING = {
    "softmax of columns": graph(ROWS_TO_ROWS, "y = Softmax <axis = 0> (x)"),
    "mean of all rows": graph(ROWS_TO_ROWS, "m = ReduceMean <axes = [0], keepdims = 1> (x) y = Sub (x, m)"),
    "running sum": graph(ROWS_TO_ROWS, "zero = Constant <value = int64 {0}> () y = CumSum (x, zero)"),
    "sorted rows": graph(
        "float[N,3] x) => (float[N,3] y",
        "s = Shape <end = 1> (x) y, i = TopK <axis = 0, largest = 1> (x, s)",
    ),
    "place in the batch": graph(
        ROWS_TO_ROWS,
        "zero = Constant <value = int64 {0}> () one = Constant <value = int64 {1}> () s = Shape <end = 1> (x) n = Squeeze (s)"
        " r = Range (zero, n, one) f = Cast <to = 1> (r) axis = Constant <value = int64[1] {1}> () c = Unsqueeze (f, axis) y = Add (x, c)",
    ),
    "rows in reverse": graph(
        ROWS_TO_ROWS,
        "a = Constant <value = int64[1] {-1}> () b = Constant <value = int64[1] {-1000000}> () z = Constant <value = int64[1] {0}> ()"
        " y = Slice (x, a, b, z, a)",
    ),
    "scale of the batch": graph(ROWS_TO_ROWS, "q, s, p = DynamicQuantizeLinear (x) y = DequantizeLinear (q, s, p)"),
    "rows left out": graph(
        "float[N,3] x) => (float[M,3] y",
        "z = Constant <value = float {0}> () i = Constant <value = int64 {0}> () c = Gather <axis = 1> (x, i)"
        " k = Greater (c, z) y = Compress <axis = 0> (x, k)",
    ),
    "whole numbers by company": graph("int64[N] x) => (int64[N] y", "m = ReduceMax <axes = [0], keepdims = 1> (x) y = Sub (m, x)"),
    "one row for all": graph("float[N,3] x) => (float[M,3] y", "y = ReduceMax <axes = [0], keepdims = 1> (x)"),
}
"""Models whose shapes look like rows in, rows out, and whose rows depend on each other."""

APART = {
    "normalisation learnt before": graph(
        "float[N,3] x) => (float[N,3] y",
        "o = Constant <value = float[3] {1,2,3}> () y = BatchNormalization (x, o, o, o, o)",
    ),
    "softmax of each row": graph(ROWS_TO_ROWS, "y = Softmax <axis = 1> (x)"),
    "half precision": graph("float16[N,8] x) => (float16[N,8] y", "y = Softmax <axis = 1> (x)"),
    "sum of each row": graph("float[N,M] x) => (float[N] y", "y = ReduceL2 <axes = [1], keepdims = 0> (x)"),
    "free second dimension that has to be four": graph(
        "float[N,M] x) => (float[N,4] y",
        "o = Constant <value = float[4] {1,2,3,4}> () s = Constant <value = int64[2] {-1,4}> () r = Reshape (x, s) y = Mul (r, o)",
    ),
    "text": graph("string[N,2] x) => (string[N,2] y", "y = Identity (x)"),
    "truth": graph("bool[N] x) => (bool[N] y", "y = Not (x)"),
    "a table of four": graph("int64[N] x) => (float[N] y", "t = Constant <value = float[4] {9,8,7,6}> () y = Gather (t, x)"),
    "two inputs": graph("float[N,3] x, int32[N] k) => (float[N,3] y, int32[N] n", "y = Neg (x) n = Neg (k)"),
}
"""Models that keep rows apart."""
