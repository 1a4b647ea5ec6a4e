"""Decode and encode are inverse for every datatype, and whatever bytes come, the refusal is typed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from registry.bundle import Signature, TensorSpec
from server.engine import DTYPES
from server.errors import InputMismatchError, RequestError
from server.grpcio_transport import parameters, tensors
from server.grpcio_transport.tensors import Form
from tidegate_protos import inference_pb2 as pb

NUMBERS = [name for name in DTYPES if name != "BYTES"]


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, NDArray[np.generic]]:
    datatype = draw(st.sampled_from(NUMBERS))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    dtype = DTYPES[datatype]
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    values = np.frombuffer(data, np.uint8) % 2 if datatype == "BOOL" else np.frombuffer(data, dtype)
    return datatype, values.astype(dtype).reshape(shape)


def request_of(datatype: str, tensor: NDArray[np.generic], *, raw: bool) -> pb.ModelInferRequest:
    """A request with the tensor as input x, written by the encoder that answers use."""
    spec = TensorSpec("x", datatype, (-1,) * tensor.ndim)
    given_request = tensors.InferRequest("m", "", "id", {}, {}, (), raw, parameters.NONE, 0)
    form = Form("m", 1, Signature((spec,), (spec,)), batchable=True)
    answer = pb.ModelInferResponse.FromString(form.encode(given_request, {"x": tensor}))
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=answer.raw_output_contents)
    output = answer.outputs[0]
    request.inputs.add(name="x", datatype=datatype, shape=output.shape, contents=output.contents if output.HasField("contents") else None)
    return request


@given(numbers(), st.booleans())
def test_numbers_survive_the_wire_to_the_bit(case: tuple[str, NDArray[np.generic]], raw: bool) -> None:  # noqa: FBT001 -- drawn
    datatype, tensor = case
    got = tensors.decode(request_of(datatype, tensor, raw=raw).SerializeToString()).inputs["x"]
    assert got.shape == tensor.shape
    np.testing.assert_array_equal(got, tensor)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8), st.booleans())
def test_texts_survive_the_wire(texts: list[bytes], raw: bool) -> None:  # noqa: FBT001 -- drawn
    tensor = np.empty(len(texts), object)
    tensor[:] = texts
    got = tensors.decode(request_of("BYTES", tensor, raw=raw).SerializeToString()).inputs["x"]
    assert got.tolist() == texts


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        tensors.decode(data)
    except RequestError as error:
        assert isinstance(error, InputMismatchError)


@given(st.binary(max_size=60), st.lists(st.integers(-3, 5), max_size=3), st.sampled_from([*DTYPES, "", "FP8"]))
def test_any_raw_contents_are_a_tensor_of_that_shape_or_refused(data: bytes, shape: list[int], datatype: str) -> None:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[data])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    try:
        got = tensors.decode(request.SerializeToString()).inputs["x"]
    except InputMismatchError:
        return
    assert list(got.shape) == shape
    assert got.dtype == DTYPES[datatype]


def test_value_outside_a_small_datatype_is_refused() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    with pytest.raises(InputMismatchError, match="outside INT8"):
        tensors.decode(request.SerializeToString())


def test_contents_of_another_datatype_are_refused() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp64_contents.append(1.0)
    with pytest.raises(InputMismatchError, match="expects fp32_contents, got fp64_contents"):
        tensors.decode(request.SerializeToString())


def test_rows_must_agree_between_inputs() -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1,)), TensorSpec("y", "FP32", (-1,))), (TensorSpec("z", "FP32", (-1,)),))
    inputs = {"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32)}
    request = tensors.InferRequest("m", "", "id", inputs, {"x": "FP32", "y": "FP32"}, (), raw=True, parameters=parameters.NONE, size=0)
    with pytest.raises(InputMismatchError, match=r"as many rows, got \[2, 3\]"):
        Form("m", 1, signature, batchable=True).rows(request)
