"""Whatever text a caller sends comes to the model as it is and back as it is; bytes that are no text are refused, and harm nobody."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import duckdb
import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.location import create_registry
from server.onnx_engine import OnnxEngine
from tests import models
from tests.contracts.transport.calls import reason
from tests.contracts.transport.onnx_calls import put_in_production
from tests.daemons import Daemon, daemon
from tests.graphs import graph
from tidegate_protos import inference_pb2 as pb

Form: TypeAlias = Callable[..., pb.ModelInferRequest]

ODD = {
    "empty": "",
    "NUL alone": "\0",
    "NUL inside and at the end": "a\0b\0",
    "two, three and four bytes": "ü€😀",
    "the last code point": "\U0010ffff",
    "no character": "\uffff\ufeff",
    "letter and accent apart": "e\u0301",
    "controls": "\r\n\t\x7f\x1b",
    "a megabyte": "long " * 200_000,
    "a megabyte of four bytes each": "😀" * 250_000,
}
NO_TEXT = {
    "no first byte": b"\xff",
    "a byte of Latin-1": b"caf\xe9",
    "cut": "€".encode()[:-1],
    "a byte too many": b"a\x80",
    "lone surrogate": b"\xed\xa0\x80",
    "pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "longer than need be": b"\xc0\x80",
    "beyond the last code point": b"\xf4\x90\x80\x80",
    "at the end of a megabyte": b"a" * 1_000_000 + b"\xff",
}
MODELS = {
    "echo": models.texts(),
    "table": graph("string[N,2] x) => (string[N,2] y", "y = Identity (x)"),
    "two": graph(
        "string[N] a, float[N] n, string[N] b) => (string[N] c, float[N] m, string[N] d", "c = Identity (b) m = Neg (n) d = Identity (a)"
    ),
    "label": graph(
        "string[N] x) => (string[N] y",
        'y = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_strings = ["ja", "nö"], default_string = ""> (x)',
    ),
    "free": graph("string x) => (string y", "y = Identity (x)"),
}


@pytest.fixture(scope="module")
def texts(
    tmp_path_factory: pytest.TempPathFactory,
    transport: str,  # noqa: ARG001 -- a daemon for each
) -> Iterator[Daemon]:
    """A daemon that serves `MODELS`, and waits a moment for rows of several callers."""
    folder = tmp_path_factory.mktemp("texts")
    registry = create_registry(str(folder / "registry"))
    for name, model in MODELS.items():
        put_in_production(registry, name, model, OnnxEngine(model, threads=1).signature)
    flags = {"registry": str(folder / "registry"), "max-queue-delay": "0.05"}
    with daemon(folder, flags) as running:
        for name in MODELS:
            running.wait_for(name)
        yield running


def typed(model: str, inputs: dict[str, list[bytes]], shape: list[int] | None = None) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    for name, elements in inputs.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)] if shape is None else shape)
        tensor.contents.bytes_contents.extend(elements)
    return request


def raw(model: str, inputs: dict[str, list[bytes]], shape: list[int] | None = None) -> pb.ModelInferRequest:
    request = typed(model, inputs, shape)
    for elements, tensor in zip(inputs.values(), request.inputs, strict=True):
        tensor.ClearField("contents")
        request.raw_input_contents.append(b"".join(len(text).to_bytes(4, "little") + text for text in elements))
    return request


def two(a: bytes, b: bytes) -> pb.ModelInferRequest:
    """Of `two`, in another order than the signature's."""
    request = typed("two", {"b": [b], "a": [a]})
    request.inputs.add(name="n", datatype="FP32", shape=[1]).contents.fp32_contents.append(2)
    return request


def answered(texts: Daemon, request: pb.ModelInferRequest) -> list[list[bytes]]:
    """The texts of each output."""
    answer = texts.stub.ModelInfer(request, timeout=20)
    if not answer.raw_output_contents:
        return [list(output.contents.bytes_contents) for output in answer.outputs if output.datatype == "BYTES"]
    return [_split(data) for data in answer.raw_output_contents]


def _split(data: bytes) -> list[bytes]:
    found = []
    while data:
        stop = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:stop])
        data = data[stop:]
    return found


def refused(texts: Daemon, request: pb.ModelInferRequest) -> str:
    """What a caller whose bytes are no text is told."""
    with pytest.raises(grpc.RpcError) as caught:
        texts.stub.ModelInfer(request, timeout=20)
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INTERNAL, "MODEL_FAILED")
    return str(caught.value.details())


@pytest.mark.parametrize("form", [raw, typed])
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_text_comes_back_as_it_was_sent(texts: Daemon, form: Form, text: str) -> None:
    assert answered(texts, form("echo", {"x": [text.encode()]})) == [[text.encode()]]


@pytest.mark.parametrize("form", [raw, typed])
def test_texts_of_several_rows_and_columns_come_back_in_their_places(texts: Daemon, form: Form) -> None:
    elements = [text.encode() for text in ODD.values()]
    assert answered(texts, form("table", {"x": elements}, [len(elements) // 2, 2])) == [elements]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(("a", "b", "", "ü", "c" * 64, "c" * 65)) | st.text(max_size=70) | st.integers().map(str), min_size=1, max_size=600
    )
)
def test_texts_that_repeat_and_texts_that_do_not_come_back_in_order(texts: Daemon, sent: list[str]) -> None:
    elements = [text.encode() for text in sent]
    assert answered(texts, raw("echo", {"x": elements})) == [elements]


@pytest.mark.parametrize("form", [raw, typed])
def test_text_without_dimensions_comes_back(texts: Daemon, form: Form) -> None:
    assert answered(texts, form("free", {"x": ["ü\0".encode()]}, [])) == [["ü\0".encode()]]


def test_texts_and_numbers_of_one_request_come_to_their_tensors(texts: Daemon) -> None:
    assert answered(texts, two(b"first", b"second")) == [[b"second"], [b"first"]]


def test_texts_that_a_model_makes_are_utf8(texts: Daemon) -> None:
    assert answered(texts, raw("label", {"x": [b"a", b"b", b"c", b"b"]})) == [[b"ja", "nö".encode(), b"", "nö".encode()]]


@pytest.mark.parametrize("form", [raw, typed])
@pytest.mark.parametrize("data", NO_TEXT.values(), ids=NO_TEXT)
def test_bytes_that_are_no_text_are_refused_as_what_the_model_cannot_take(texts: Daemon, form: Form, data: bytes) -> None:
    says = "input x holds bytes that are not UTF-8 text, which this model needs"
    assert refused(texts, form("echo", {"x": [data]})).endswith(says)
    assert refused(texts, form("echo", {"x": [b"good", data, b"good"]})).endswith(says)


def test_first_input_of_the_model_that_holds_no_text_is_named(texts: Daemon) -> None:
    assert "input a holds" in refused(texts, two(b"\xff", b"\xff"))
    assert "input b holds" in refused(texts, two(b"good", b"\xff"))


def test_only_the_caller_whose_bytes_are_no_text_is_refused(texts: Daemon) -> None:
    def ask(number: int) -> bool:
        if number % 7 == 3:
            return bool(refused(texts, raw("echo", {"x": [b"good", b"\xff%d" % number]})))
        sent = [f"{number} ü".encode(), b""] * (number % 3 + 1)
        return answered(texts, raw("echo", {"x": sent})) == [sent]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


def test_texts_stand_in_the_prediction_log_as_they_were_sent_and_answered(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    put_in_production(registry, "echo", MODELS["echo"], OnnxEngine(MODELS["echo"], threads=1).signature)
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), "prediction-log": str(tmp_path / "log")}) as running:
        running.wait_for("echo")
        answered(running, raw("echo", {"x": [text.encode() for text in ODD.values()]}))
        refused(running, raw("echo", {"x": [b"\xff"]}))
    found = duckdb.connect().execute(f"SELECT x, y FROM read_parquet('{tmp_path}/log/**/*.parquet') ORDER BY row")  # noqa: S608 -- a path of ours
    assert found.fetchall() == [(text, text) for text in ODD.values()]
