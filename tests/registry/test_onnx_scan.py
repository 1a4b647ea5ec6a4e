"""What is refused, each with its reason, and what is not; that hostile bytes cost little, and what tensors hold costs nothing."""

import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from registry import onnx_scan
from registry.onnx_scan import refusal
from tests.registry.onnx_files import HEAD, cut, forest, huge, parsed, rich, sized, small, varint

UNREADABLE = ("is not an ONNX model: ", "ends in the middle of a field")


def refused(model: ModelProto) -> str:
    reason = refusal([model.SerializeToString()])
    assert reason is not None
    return reason


KINDS = {
    FieldDescriptor.TYPE_FLOAT: ({"float"}, {"floats"}),
    FieldDescriptor.TYPE_DOUBLE: (set(), {"doubles"}),
    FieldDescriptor.TYPE_STRING: ({"bytes", "name"}, {"bytes"}),
    FieldDescriptor.TYPE_BYTES: ({"bytes"}, {"bytes"}),
    FieldDescriptor.TYPE_ENUM: ({"int", "location"}, {"ints"}),
}


def test_the_table_has_every_field_of_every_message_of_the_onnx_package_and_no_other() -> None:
    compared = set[tuple[str, str]]()

    def compare(descriptor: Any, name: str) -> None:
        if (descriptor.full_name, name) in compared:
            return
        compared.add((descriptor.full_name, name))
        kinds = onnx_scan.message(name).fields
        assert {field.number for field in descriptor.fields} == set(kinds), name
        for field in descriptor.fields:
            if field.message_type:
                compare(field.message_type, kinds[field.number])
            else:
                expected = KINDS.get(field.type, ({"int", "number"}, {"ints"}))[field.is_repeated]
                assert kinds[field.number] in expected, (name, field.name)

    compare(ModelProto.DESCRIPTOR, "Model")
    assert {name for _, name in compared} == set(onnx_scan.MESSAGES)


def test_the_domains_let_in_are_those_onnx_runtime_has_for_everyone() -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema  # noqa: PLC0415

    known = {schema.domain.encode() for schema in get_all_operator_schema()}
    assert known - {b"com.microsoft.nchwc", b"com.ms.internal.nhwc"} == onnx_scan.DOMAINS - {b"ai.onnx"}


Place = tuple[Any, ...]  # of protobuf's field descriptors, which have two types
TWICE = {"GraphProto", "NodeProto", "AttributeProto"}


def places(wanted: str, descriptor: Any = ModelProto.DESCRIPTOR, above: Place = ()) -> Iterator[Place]:
    """Every way from a model to a message of that name, with at most one graph in another."""
    if descriptor.name == wanted:
        yield above
    met = [field.message_type.name for field in above]
    for field in descriptor.fields:
        if field.message_type and met.count(field.message_type.name) <= (field.message_type.name in TWICE):
            yield from places(wanted, field.message_type, (*above, field))


def put(model: ModelProto, place: Place) -> Any:
    """The message at that place of the model, made there with all that is above it."""
    message: Any = model
    for field in place:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
        message.SetInParent()
    return message


def named(place: Place) -> str:
    return ".".join(field.name for field in place)


@pytest.mark.parametrize("place", [*places("TensorProto")], ids=named)
def test_a_tensor_kept_in_another_file_is_refused_wherever_it_stands(place: Place) -> None:
    model, located, marked, sized_only = small(), small(), small(), small()
    put(model, place).raw_data = b"1234"
    assert refusal([model.SerializeToString()]) is None
    put(located, place).external_data.add(key="location", value="weights.bin")
    assert refused(located) == (
        "keeps weights in another file ('weights.bin'): save it with all tensors inside, as onnx.save(onnx.load(path), path) does"
    )
    put(marked, place).data_location = TensorProto.EXTERNAL
    assert refused(marked).startswith("keeps weights in another file: ")
    put(sized_only, place).external_data.add(key="length", value="4")
    assert refused(sized_only).startswith("keeps weights in another file: ")


@pytest.mark.parametrize("location", [b"\x01", b"\x81\x80\x80\x80\x10", b"\x81\x00", b"\x01\x70\x00", b"\x00\x70\x01", b"\x01\x70\x02"])
def test_no_way_to_write_external_hides_it(location: bytes) -> None:
    assert refusal([HEAD + sized(7, sized(5, b"\x70" + location))]) is not None
    assert refusal([HEAD + sized(7, sized(5, b"\x70\x00\x70\x02"))]) is None


def test_the_advice_for_a_model_in_two_files_makes_one_that_is_let_in(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = small()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert "'weights.bin'" in (refusal([path.read_bytes()]) or "")
    onnx.save(onnx.load(path), path)
    assert refusal([path.read_bytes()]) is None


@pytest.mark.parametrize("place", [*places("NodeProto")], ids=named)
def test_an_operator_of_an_unknown_domain_is_refused_wherever_it_stands(place: Place) -> None:
    for domain in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft"):
        model = small()
        node = put(model, place)
        node.op_type, node.domain = "Gelu", domain
        assert refusal([model.SerializeToString()]) is None
    model = small()
    node = put(model, place)
    node.op_type, node.domain = "Fancy", "my.ops"
    assert refused(model).startswith(
        "uses the operator 'Fancy' of the domain 'my.ops', which ONNX Runtime does not have built in: export it "
    )


def test_an_operator_that_the_model_defines_is_let_in_and_no_other_of_its_domain() -> None:
    model = rich()
    assert refusal([model.SerializeToString()]) is None
    model.functions[0].node.add(op_type="Other", domain="mine")
    assert "'Other' of the domain 'mine'" in refused(model)
    del model.functions[0].node[-1]
    model.functions[0].domain = "yours"
    assert "'Own' of the domain 'mine'" in refused(model)


@pytest.mark.parametrize("missing", ["ir_version", "graph", "opset_import"])
def test_a_model_without_what_every_model_has_is_refused(missing: str) -> None:
    model = small()
    model.ClearField(missing)
    assert refused(model) == f"is not an ONNX model: it has no {missing}"


def test_a_file_without_bytes_or_of_something_else_is_refused() -> None:
    assert refusal([]) == refusal([b""]) == "is not an ONNX model: it has no ir_version and no graph and no opset_import"
    for other in (
        b"a model",
        b"{}",
        b"PK\x03\x04" + bytes(100),
        b"\x89PNG\r\n",
        b"\x7fELF" + bytes(60),
        helper.make_node("Abs", ["x"], ["y"]),
    ):
        raw = other if isinstance(other, bytes) else other.SerializeToString()
        assert (refusal([raw]) or "").startswith(UNREADABLE)


def test_no_part_of_a_model_is_taken_for_a_model() -> None:
    raw = rich().SerializeToString()
    assert all(refusal([raw[:size]]) for size in range(len(raw)))


def nested(depth: int, field: str = "g") -> ModelProto:
    model = small()
    graph = model.graph
    for _ in range(depth):
        attribute = graph.node.add(op_type="If").attribute.add(name="then_branch", type=AttributeProto.GRAPH)
        graph = attribute.g if field == "g" else attribute.graphs.add()
        graph.SetInParent()
    return model


@pytest.mark.parametrize("field", ["g", "graphs"])
def test_graphs_nest_up_to_the_limit_and_no_deeper(field: str) -> None:
    assert refusal([nested(onnx_scan.NESTING, field).SerializeToString()]) is None
    assert refused(nested(onnx_scan.NESTING + 1, field)).startswith("has subgraphs nested more than 16 deep")
    assert refusal([nested(3, field).SerializeToString()], nesting=2) is not None
    wide = small()
    for _ in range(100):
        wide.graph.node.add(op_type="If").attribute.add().g.SetInParent()
    assert refusal([wide.SerializeToString()], nesting=1) is None


def nested_types(depth: int) -> bytes:
    content, outermost = b"", depth - 4  # below model, graph, value and type
    for level in range(outermost, -1, -1):
        content = sized(1 if level % 2 else 4, content)
    return HEAD + sized(7, sized(11, sized(2, content)))


def test_messages_nest_as_deep_as_protobuf_lets_them() -> None:
    assert parsed(nested_types(onnx_scan.DEPTH))
    assert refusal([nested_types(onnx_scan.DEPTH)]) is None
    assert not parsed(nested_types(onnx_scan.DEPTH + 1))
    assert "messages are nested more than 100 deep" in (refusal([nested_types(onnx_scan.DEPTH + 1)]) or "")


def test_endless_nesting_ends_no_recursion() -> None:
    assert (refusal([nested_types(20_000)]) or "").startswith(UNREADABLE)
    graphs = b""
    for _ in range(5_000):
        graphs = sized(1, sized(5, sized(6, graphs)))
    assert (refusal([HEAD + sized(7, graphs)]) or "").startswith("has subgraphs nested more than 16 deep")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x3a" + varint((1 << 31) - 1), "ends in the middle of a field, after 12 bytes"),
        (b"\x12" + varint((1 << 31) - 1) + b"x", "ends in the middle of a field, after 13 bytes"),
        (b"\x12" + varint(1 << 31), "a length is 2147483648, more than protobuf allows, at byte 12"),
        (b"\x12" + varint(1 << 63), "a number has more than 5 bytes at byte 12"),
        (b"\x12\x81\x80\x80\x80\x80\x00x", "a number has more than 5 bytes at byte 12"),
        (b"\x08" + b"\xff" * 100_000, "a number has more than 10 bytes at byte 17"),
        (b"\x80" * 100_000, "a number has more than 5 bytes at byte 11"),
        (b"\xf8\xff\xff\xff\x1f\x01", "there is no field number 1073741823, but one at byte 11"),
        (b"\x00\x01", "there is no field number 0, but one at byte 7"),
        (b"\x0a\x00", "field 1 of Model has wire type 2"),
        (b"\x3b\x3c", "field 7 of Model has wire type 3"),
        (b"\xa3\x06\xa4\x06", "there is a wire type 3, which no ONNX message has,"),
        (b"\xa6\x06", "there is a wire type 6, which no ONNX message has,"),
        (sized(7, b"\x2a\x05\x08"), "a field runs past the end of its message at byte 10"),
        (sized(7, sized(5, b"\x08\x80")) + b"\x01", "a field runs past the end of its message"),
        (sized(7, sized(5, b"\x3a\x01\x80\x08\x00")), "a field runs past the end of its message"),
        (sized(7, sized(5, sized(1, b"\xff" * 50 + b"\x00"))), "a number has more than 10 bytes"),
        (sized(7, sized(5, sized(4, b"abc"))), "numbers of 4 bytes are packed into 3 bytes"),
        (sized(7, sized(5, sized(10, b"abcd"))), "numbers of 8 bytes are packed into 4 bytes"),
        (sized(7, sized(1, sized(7, b"d" * 1025))), "names an operator or a domain with more than 1024 bytes: 'ddd"),
        (sized(7, b"".join(sized(1, sized(7, b"%d" % number)) for number in range(10_001))), "more than 10000 operators of other domains"),
        (sized(7, sized(1, sized(7, b"a\nb\xe2\x80\xa8\xff"))), "of the domain 'a\\nb\\u2028\ufffd'"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason_in_one_line(raw: bytes, reason: str) -> None:
    found = refusal([HEAD + raw])
    assert found is not None
    assert reason in found
    assert found.isprintable()


@pytest.mark.parametrize("size", range(1, 13))
def test_a_number_has_ten_bytes_at_most_wherever_it_stands(size: int) -> None:
    number = b"\x80" * (size - 1) + b"\x01"
    graphs = [b"", sized(5, sized(7, number * 9)), sized(1, sized(5, (b"\x40" + number) * 9)), sized(5, b"\x10" + number)]
    for graph in graphs:
        raw = HEAD + sized(7, graph) + (b"" if graph else b"\x28" + number)
        assert (refusal([raw]) is None) == (parsed(raw) is not None) == (size <= 10)


def test_of_a_number_only_the_bits_count_that_protobuf_takes() -> None:
    nothing = b"\x08" + b"\x80" * 9 + b"\x02" + HEAD[2:] + sized(7, b"")
    written = parsed(nothing)
    assert written
    assert written.ir_version == 0
    assert refusal([nothing]) == "is not an ONNX model: it has no ir_version"


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        (sized(7, b"") + b"\xf8\x07\x00" * 1_000_000, True),  # unknown fields
        (sized(7, b"\x0a\x00" * 500_000), True),  # empty nodes
        (sized(7, sized(1, sized(5, b"\x40\x01\x3d1234" * 1_000_000))), True),  # numbers of two kinds in turns
        (sized(7, sized(5, b"\x32\x00" * 1_000_000)), True),  # empty texts
        (b"\xfb\x07" * 1_000_000, False),  # groups
        (sized(7, sized(5, sized(7, b"\xff" * 2_000_000))), False),  # one number without end
    ],
    ids=["unknown", "nodes", "alternating", "texts", "groups", "number"],
)
def test_a_million_tiny_fields_take_seconds_and_no_more(fields: bytes, accepted: bool) -> None:  # noqa: FBT001
    started = time.monotonic()
    assert (refusal(cut(HEAD + fields)) is None) == accepted
    assert time.monotonic() - started < 30


def test_a_tree_ensemble_of_a_million_nodes_is_not_read_number_by_number() -> None:
    written = parsed(forest(1000))
    assert written
    assert [len(list_.ints) + len(list_.floats) + len(list_.strings) for list_ in written.graph.node[0].attribute] == [1000] * 4
    raw = forest(1_000_000)
    started = time.monotonic()
    assert refusal(cut(raw)) is None
    assert time.monotonic() - started < 2  # a loop in Python over the four million takes longer
    assert refusal(cut(raw[:-1])) is not None


def test_what_tensors_hold_is_skipped_and_not_held() -> None:
    tracemalloc.start()
    started = time.monotonic()
    assert refusal(huge(256 << 20)) is None
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_what_the_source_of_the_bytes_raises_is_raised() -> None:
    def broken() -> Iterator[bytes]:
        yield HEAD
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        refusal(broken())


def test_a_model_that_is_let_in_is_read_to_its_end() -> None:
    pieces = iter([*cut(rich().SerializeToString(), 7), b"", b""])
    assert refusal(pieces) is None
    assert next(pieces, None) is None


def calling(levels: int, times: int, *, back: bool = False) -> ModelProto:
    """A model whose functions each call the next so many times; with `back`, the last calls the first."""
    model = small(helper.make_node("F0", ["x"], ["y"], domain="mine"))
    model.opset_import.add(domain="mine", version=1)
    for level in range(levels):
        last = level == levels - 1
        operator, domain = ("F0" if back else "Identity", "mine" if back else "") if last else (f"F{level + 1}", "mine")
        nodes = [helper.make_node(operator, ["a"], ["b"], domain=domain) for _ in range(times)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        model.functions.append(helper.make_function("mine", f"F{level}", ["a"], ["b"], nodes, imports))
    return model


def test_functions_that_come_to_too_many_nodes_are_refused_in_no_time() -> None:
    assert refusal([calling(14, 2).SerializeToString()]) is None
    start = time.perf_counter()
    assert "comes to more than 20000 nodes when its functions are written out" in refused(calling(15, 2))
    assert "comes to more than 20000 nodes" in refused(calling(60, 9))
    assert time.perf_counter() - start < 1


def test_functions_that_call_themselves_or_one_another_without_end_are_refused() -> None:
    assert "call one another without end" in refused(calling(1, 1, back=True))
    assert "call one another without end" in refused(calling(5, 2, back=True))
    assert "more than 100 deep" in refused(calling(101, 1))
    assert refusal([calling(100, 1).SerializeToString()]) is None


def test_a_model_without_functions_may_have_as_many_nodes_as_it_likes() -> None:
    node = sized(1, helper.make_node("Identity", ["x"], ["y"]).SerializeToString())
    plain = small().SerializeToString() + sized(7, node * (onnx_scan.EXPANSION + 10))
    assert refusal([plain]) is None
