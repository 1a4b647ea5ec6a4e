"""Tensors survive the way to the protocol's bytes and back, in both forms; what does not fit is refused in words."""

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from control_plane.errors import AnswerError, RequestError, TensorError
from control_plane.inference import rest, tensors
from tidegate_protos import inference_pb2 as pb

NUMERIC = sorted(tensors.DTYPES)


def answer_to(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """The inputs as outputs."""
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    for tensor in request.inputs:
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    answer.raw_output_contents.extend(request.raw_input_contents)
    return answer


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Any]:
    datatype = draw(st.sampled_from(NUMERIC))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    return datatype, draw(hnp.arrays(tensors.DTYPES[datatype], shape))


@given(st.lists(arrays(), max_size=4), st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_goes_in_comes_out_in_either_form_of_either_side(sent: list[tuple[str, Any]], forms: list[bool]) -> None:
    inputs, outputs, chunks = [], [], b""
    for place, (datatype, array) in enumerate(sent):
        item: dict[str, Any] = {"name": f"t{place}", "datatype": datatype, "shape": list(array.shape)}
        if forms[place]:
            item["parameters"] = {"binary_data_size": array.nbytes}
            chunks += array.tobytes()
        else:
            item["data"] = array.ravel().tolist()
        inputs.append(item)
        outputs.append({"name": f"t{place}", "parameters": {"binary_data": forms[4 + place]}})
    text = json.dumps(
        {"id": "i", "inputs": inputs, "outputs": outputs}
    ).encode()  # NaN and Infinity as bare words, as Python clients send them
    request, form = rest.decode(text + chunks, str(len(text)), "m", "")
    encoded = rest.encode(answer_to(request), form)
    assert (encoded.json_length is not None) == any(forms[4 : 4 + len(sent)])
    end = encoded.json_length if encoded.json_length is not None else len(encoded.body)
    document, left = json.loads(encoded.body[:end], parse_constant=pytest.fail), encoded.body[end:]
    for place, (datatype, array) in enumerate(sent):
        output = document["outputs"][place]
        assert (output["name"], output["datatype"], output["shape"]) == (f"t{place}", datatype, list(array.shape))
        if forms[4 + place]:
            size = output["parameters"]["binary_data_size"]
            raw, left = left[:size], left[size:]
            got = np.frombuffer(raw, array.dtype)
        else:
            got = np.array([float(value) if isinstance(value, str) else value for value in output["data"]], array.dtype)
        np.testing.assert_array_equal(got.reshape(array.shape), array)
    assert left == b""


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_text_goes_as_length_prefixed_bytes(texts: list[str]) -> None:
    raw = tensors.pack("x", "BYTES", [len(texts)], texts)
    assert raw == b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    assert tensors.unpack("x", "BYTES", raw) == texts


def test_data_may_be_flat_or_nested_as_the_shape_says() -> None:
    flat = tensors.pack("x", "INT16", [2, 2], [1, 2, 3, 4])
    assert tensors.pack("x", "INT16", [2, 2], [[1, 2], [3, 4]]) == flat == struct.pack("<4h", 1, 2, 3, 4)


def test_a_missing_number_may_be_null_and_not_a_number_is_a_word_on_the_way_out() -> None:
    raw = tensors.pack("x", "FP32", [5], [None, "NaN", "Infinity", "-Infinity", 1])
    assert np.isnan(np.frombuffer(raw, "<f4")[:2]).all()
    assert tensors.unpack("x", "FP32", raw) == ["NaN", "NaN", "Infinity", "-Infinity", 1.0]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "words"),
    [
        ("FP32", [2], [1.0], "expects 2 values, got 1"),
        ("FP32", [1], [True], "expects numbers, got True"),
        ("FP32", [1], ["1"], "expects numbers, got '1'"),
        ("FP32", [1], [1e39], "outside FP32"),
        ("FP16", [1], [65520.0], "outside FP16"),
        ("FP64", [1], [10**400], "outside FP64"),
        ("INT8", [1], [128], "outside INT8"),
        ("UINT64", [1], [-1], "outside UINT64"),
        ("INT64", [1], [2**63], "outside INT64"),
        ("INT32", [1], [1.5], "expects integers, got 1.5"),
        ("INT32", [1], [None], "expects integers, got None"),
        ("BOOL", [1], [1], "expects true and false, got 1"),
        ("BYTES", [1], [1], "expects strings, got 1"),
        ("BYTES", [1], ["\ud800"], "surrogate"),
        ("STRING", [1], ["a"], "expected one of"),
        ("FP32", [2, 2], [[1, 2], [3]], "nested lists differ"),
        ("FP32", [2, 2], [[1, 2], 3], "nested lists differ"),
        ("FP32", [2, 2], [[1, 2, 3, 4]], "nested as [1, 4]"),
        ("FP32", [1], {"a": 1}, "a list of values"),
        ("FP32", [1], [{}], "expects numbers"),
        ("FP32", [2], [1, [2]], "expects numbers"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_was_expected(datatype: str, shape: list[int], data: object, words: str) -> None:
    with pytest.raises(TensorError) as refused:
        tensors.pack("x", datatype, shape, data)
    assert words in str(refused.value)


@pytest.mark.parametrize("datatype", NUMERIC)
def test_binary_data_of_the_wrong_size_are_refused(datatype: str) -> None:
    size = 3 * tensors.DTYPES[datatype].itemsize
    tensors.check_size("x", datatype, [3], size)
    with pytest.raises(TensorError, match=f"expects {size} bytes, got {size + 1}"):
        tensors.check_size("x", datatype, [3], size + 1)


@pytest.mark.parametrize(
    ("datatype", "raw"), [("BYTES", b"\x01\x00\x00\x00\xff"), ("BYTES", b"\x09\x00\x00\x00a"), ("FP32", b"abc"), ("FP99", b"")]
)
def test_an_answer_that_json_cannot_hold_is_an_error_in_words(datatype: str, raw: bytes) -> None:
    with pytest.raises(AnswerError, match="output 'x'"):
        tensors.unpack("x", datatype, raw)


BODIES: list[tuple[bytes, str | None, str]] = [
    (b"", None, "not JSON"),
    (b"[]", None, "not a JSON object"),
    (b"[" * 100_000, None, "not JSON"),
    (b"\xff", None, "not JSON"),
    (b"{}", "3", "up to 2"),
    (b"{}", "-1", "up to 2"),
    (b"{}", "1_0", "up to 2"),
    (b"{} ", "2", "1 bytes are left"),
    (b'{"inputs":{}}', None, "inputs is not a list"),
    (b'{"inputs":[1]}', None, "an entry of inputs"),
    (b'{"inputs":[{}]}', None, "name"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"data":[]}]}', None, "shape"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[true],"data":[1]}]}', None, "shape"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}', None, "either data or"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}', None, "either data or"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}', None, "0 bytes are left"),
    (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":true}}]}', None, "binary_data_size"),
    (b'{"id":1}', None, "id"),
    (b'{"id":"\\ud800"}', None, "Unicode"),
    (b'{"parameters":{"a":null}}', None, "parameter 'a'"),
    (b'{"parameters":{"a":99999999999999999999}}', None, "parameter 'a'"),
    (b'{"parameters":{"binary_data_output":1}}', None, "true or false"),
    (b'{"outputs":[{"name":"x","parameters":{"binary_data":"yes"}}]}', None, "true or false"),
]


@pytest.mark.parametrize(("body", "header", "words"), BODIES)
def test_a_body_that_does_not_hold_together_is_refused(body: bytes, header: str | None, words: str) -> None:
    with pytest.raises(TensorError) as refused:
        rest.decode(body, header, "m", "")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=80), st.none() | st.integers(-2, 90).map(str) | st.text(max_size=5))
def test_no_body_breaks_the_decoder(body: bytes, header: str | None) -> None:
    try:
        rest.decode(body, header, "m", "")
    except RequestError as error:
        assert str(error)


def test_parameters_pass_with_their_types_and_the_forms_of_binary_data_stay_here() -> None:
    parameters = {"b": True, "i": -5, "u": 2**63, "d": 0.5, "s": "text", "binary_data_output": True}
    request, form = rest.decode(json.dumps({"parameters": parameters}).encode(), None, "m", "3")
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()}
    assert chosen == {"b": "bool_param", "i": "int64_param", "u": "uint64_param", "d": "double_param", "s": "string_param"}
    assert form.is_binary("any")
    assert request.model_version == "3"
    assert math.isclose(request.parameters["d"].double_param, 0.5)
