"""ONNX files for the tests of the scan and the guard: small ones, one with something of everything, and huge ones made as they are read."""

from collections.abc import Iterable, Iterator

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, helper

HEAD = b"\x08\x08\x42\x02\x10\x11"
"""The fields of a model but its graph: ir_version 8, opset_import {version: 17}."""


def varint(number: int) -> bytes:
    """The number as protobuf writes it."""
    more = b""
    while number >= 0x80:
        more, number = more + bytes([number & 0x7F | 0x80]), number >> 7
    return more + bytes([number])


def sized(number: int, content: bytes) -> bytes:
    """The field of that number that holds bytes, a text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def parsed(raw: bytes) -> ModelProto | None:
    """What protobuf makes of the bytes, None if they are no message to it."""
    model = ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError:
        return None
    return model


def small(*nodes: NodeProto) -> ModelProto:
    """A model of these nodes, or of one multiplication."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3]) for name in ("x", "y")]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph(list(nodes) or [helper.make_node("Mul", ["x", "w"], ["y"])], "small", values[:1], values[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rich() -> ModelProto:
    """A model that has something of everything."""
    branch = small(helper.make_node("Neg", ["x"], ["y"])).graph
    model = small(
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node(
            "TreeEnsembleRegressor", ["x"], ["z"], domain="ai.onnx.ml", ids=[1, -1, 300], values=[0.5, 2.0], modes=["LEAF", "B"]
        ),
        helper.make_node("Own", ["x"], ["z"], domain="mine"),
    )
    own = helper.make_node("Abs", ["a"], ["b"])
    model.functions.append(helper.make_function("mine", "Own", ["a"], ["b"], [own], [helper.make_opsetid("", 17)]))
    model.graph.initializer.add(dims=[2], data_type=TensorProto.INT64, int64_data=[1, -1], name="packed")
    model.graph.initializer.add(dims=[2], data_type=TensorProto.STRING, string_data=[b"one", b"t" * 99], name="texts")
    model.graph.initializer.add(dims=[1], data_type=TensorProto.DOUBLE, double_data=[1.5], raw_data=b"12345678")
    helper.set_model_props(model, {"key": "value" * 30})
    return model


def cut(raw: bytes, size: int = 1 << 16) -> Iterable[bytes]:
    """The bytes in chunks."""
    return (raw[start : start + size] for start in range(0, len(raw), size))


def forest(entries: int) -> bytes:
    """A tree ensemble as skl2onnx writes it: numbers and texts that are not packed, one attribute for each property of its nodes."""
    generator = np.random.default_rng(20260207)
    ids = b"".join(b"\x40" + varint(int(number)) for number in generator.integers(0, 2000, entries))
    values = np.empty(entries, [("tag", np.uint8), ("value", "<f4")])
    values["tag"], values["value"] = 0x3D, generator.normal(size=entries)
    modes = b"".join(b"\x4a\x0aBRANCH_LEQ" if branch else b"\x4a\x04LEAF" for branch in generator.random(entries) < 0.5)
    lists = {"nodes_treeids": ids, "nodes_nodeids": ids, "nodes_values": values.tobytes(), "nodes_modes": modes}
    attributes = b"".join(sized(5, sized(1, name.encode()) + items) for name, items in lists.items())
    return HEAD + sized(7, sized(1, sized(4, b"TreeEnsembleRegressor") + sized(7, b"ai.onnx.ml") + attributes))


def huge(size: int) -> Iterator[bytes]:
    """A model with one tensor of `size` bytes, in chunks."""
    tensor = b"\x4a" + varint(size)
    graph = b"\x2a" + varint(len(tensor) + size) + tensor
    yield HEAD + b"\x3a" + varint(len(graph) + size) + graph
    chunk = bytes(1 << 16)
    for start in range(0, size, len(chunk)):
        yield chunk[: size - start]
