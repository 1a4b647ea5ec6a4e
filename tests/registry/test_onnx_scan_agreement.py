"""An ONNX file is let in if protobuf reads it, all of it is inside and ONNX Runtime has its operators.

What parses is what `onnx.ModelProto.ParseFromString` says, what is in it is what a walk over the parsed message finds. Both are asked about
the files shipped with the onnx package, the models of all its operators, thousands of damaged ones, and whatever Hypothesis makes of the
wire format.
"""

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto
from onnx.backend.test.case.node import collect_testcases

from registry.onnx_scan import refusal
from tests.registry.onnx_files import HEAD, parsed, rich, sized, varint

SEED = 20260207
SHIPPED = Path(onnx.__file__).parent / "backend/test/data"
TRAINING_ONLY = {"test_gradient_of_add", "test_gradient_of_add_and_mul"}  # operators of ai.onnx.preview.training
STRICTER = ("has wire type", "which no ONNX message has", "has more than 5 bytes")  # reasons the scan's docstring gives


def messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


def acceptable(model: ModelProto) -> bool:
    inside = list(messages(model))
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [node for node in inside if isinstance(node, NodeProto)]
    tensors = [tensor for tensor in inside if isinstance(tensor, TensorProto)]
    return (
        bool(model.ir_version and model.HasField("graph") and model.opset_import)
        and not any(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in tensors)
        and all(node.domain in {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"} or (node.domain, node.op_type) in own for node in nodes)
    )


def agree(raw: bytes) -> bool:
    """Check the scan against protobuf; True if protobuf reads it."""
    reason, model = refusal([raw]), parsed(raw)
    if model is None:
        assert reason is not None
        return False
    if reason is None or not any(stricter in reason for stricter in STRICTER):
        try:
            expected = acceptable(model)
        except UnicodeDecodeError:  # a name of a node that is no text: not one that ONNX Runtime has
            expected = False
        assert (reason is None) == expected, reason
    return True


@pytest.mark.parametrize("path", sorted(SHIPPED.rglob("*.onnx")), ids=lambda path: path.parent.name)
def test_every_model_shipped_with_onnx_is_let_in_but_those_for_training(path: Path) -> None:
    reason = refusal([path.read_bytes()])
    if path.parent.name in TRAINING_ONLY:
        assert reason is not None
        assert "'Gradient' of the domain 'ai.onnx.preview.training'" in reason
    else:
        assert reason is None


def bit_flip(raw: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << generator.randrange(8)]) + raw[place + 1 :]


def truncation(raw: bytes, generator: random.Random) -> bytes:
    return raw[: generator.randrange(len(raw))]


def insertion(raw: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(raw) + 1)
    return raw[:place] + generator.randbytes(generator.randrange(1, 12)) + raw[place:]


def deletion(raw: bytes, generator: random.Random) -> bytes:
    place = generator.randrange(len(raw))
    return raw[:place] + raw[place + generator.randrange(1, 12) :]


def length_change(raw: bytes, generator: random.Random) -> bytes:
    place = generator.choice([place for place, byte in enumerate(raw) if byte & 7 == 2])  # after what looks like a tag
    return raw[: place + 1] + varint(generator.choice([0, 1, 127, 128, 1 << 14, 1 << 31, 1 << 63])) + raw[place + 2 :]


@pytest.fixture(scope="module")
def generated() -> list[bytes]:
    """The models of the operators' own tests, which the onnx package makes instead of shipping them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case.model.SerializeToString() for case in collect_testcases(None) if case.model]


def test_of_the_models_of_all_operators_those_in_preview_are_refused(generated: list[bytes]) -> None:
    assert len(generated) > 1000
    assert all(agree(raw) for raw in generated)
    reasons = {reason for raw in generated if (reason := refusal([raw]))}
    assert {reason.split("'")[1] for reason in reasons} == {"Adagrad", "Adam", "FlexAttention", "Momentum"}
    assert all("of the domain 'ai.onnx.preview" in reason for reason in reasons)


@pytest.mark.parametrize("mutate", [bit_flip, truncation, insertion, deletion, length_change])
def test_of_damaged_models_those_are_let_in_that_protobuf_reads_and_no_others(
    mutate: Callable[[bytes, random.Random], bytes], generated: list[bytes]
) -> None:
    generator = random.Random(SEED)  # noqa: S311
    real = [path.read_bytes() for path in sorted(SHIPPED.rglob("model.onnx")) if path.stat().st_size < 100_000]
    raws = [rich().SerializeToString()] * 500 + real + generator.sample(generated, 500)
    readable = [agree(mutate(raw, generator)) for raw in raws]
    assert 0 < sum(readable) < len(raws)


wire_values = st.one_of(
    st.integers(0, 1 << 70).map(varint),
    st.integers(0, 300).map(varint),
    st.binary(max_size=9),
    st.binary(max_size=70).map(lambda content: varint(len(content)) + content),
)
tags = st.tuples(st.integers(0, 27), st.sampled_from([0, 0, 1, 2, 2, 2, 2, 2, 5, 3, 4, 6])).map(lambda tag: varint(tag[0] << 3 | tag[1]))
wire_fields = st.tuples(tags, wire_values).map(b"".join)
wire = st.recursive(
    wire_fields,
    lambda inner: st.tuples(st.integers(1, 26), st.lists(inner, max_size=4).map(b"".join)).map(lambda field: sized(*field)),
    max_leaves=12,
)


@given(st.lists(wire, max_size=5).map(b"".join), st.sampled_from([b"", HEAD]))
@settings(max_examples=1000)
def test_whatever_the_bytes_are_protobuf_and_the_scan_agree_on_them(raw: bytes, before: bytes) -> None:
    agree(before + raw)


@given(st.data())
def test_it_does_not_matter_in_what_pieces_the_bytes_come(data: st.DataObject) -> None:
    raw = data.draw(
        st.sampled_from([rich().SerializeToString(), rich().SerializeToString()[:-3], HEAD + sized(7, sized(5, b"\x3a\x01\x80"))])
    )
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)))))
    pieces = [raw[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert refusal(pieces) == refusal([raw])
    assert refusal(raw[place : place + 1] for place in range(len(raw))) == refusal([raw])
