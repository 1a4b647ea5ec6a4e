"""Arrays survive the wire bit by bit, and bytes that are not what they say are refused. tritonclient's codec is the oracle."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

from tidegate_client import AnswerError, InputError, tensors
from tidegate_client.values import Array

NUMERIC = [datatype for datatype in tensors.DTYPES if datatype != tensors.BYTES]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def _arrays(draw: st.DrawFn) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(NUMERIC))
    array: Array = draw(hnp.arrays(tensors.DTYPES[datatype], SHAPES))
    return datatype, array


@given(_arrays())
def test_numbers_survive_the_wire_bit_by_bit(case: tuple[str, Array]) -> None:
    datatype, array = case
    raw = tensors.encode(array, datatype)
    back = tensors.decode(raw, datatype, array.shape)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert not back.flags.writeable
    assert tensors.datatype_of(array) == datatype == np_to_triton_dtype(array.dtype)


@given(_arrays())
def test_order_of_bytes_and_of_axes_in_memory_do_not_matter(case: tuple[str, Array]) -> None:
    datatype, array = case
    swapped = np.asfortranarray(array.astype(array.dtype.newbyteorder(">"))).reshape(array.shape)
    assert tensors.encode(swapped, datatype) == tensors.encode(array, datatype)
    assert tensors.datatype_of(swapped) == datatype


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_survive_as_text_and_back(elements: list[bytes]) -> None:
    array = np.array(elements, dtype=object)
    raw = tensors.encode(array, "BYTES")
    text = tensors.decode(raw, "BYTES", array.shape)
    assert all(type(element) is str for element in text.tolist())
    assert [element.encode("utf-8", "surrogateescape") for element in text.tolist()] == elements
    assert tensors.encode(text, "BYTES") == raw
    if elements:
        assert raw == serialize_byte_tensor(array).item()


@given(st.lists(st.text(), min_size=1, max_size=8))
def test_text_survives_the_wire(elements: list[str]) -> None:
    raw = tensors.encode(np.array(elements, dtype=object), "BYTES")
    assert tensors.decode(raw, "BYTES", (len(elements), 1)).ravel().tolist() == elements


@given(_arrays())
def test_typed_lists_are_read_like_raw_bytes(case: tuple[str, Array]) -> None:
    datatype, array = case
    back = tensors.decode_list(array.ravel().tolist(), datatype, array.shape)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


@pytest.mark.parametrize(
    ("raw", "datatype", "shape"),
    [
        (b"\0" * 7, "FP32", (2,)),
        (b"\0" * 8, "FP32", (3,)),
        (b"\0" * 8, "FP32", (-1,)),
        (b"\2\0\0\0a", "BYTES", (1,)),
        (b"\1\0\0", "BYTES", (1,)),
        (b"\1\0\0\0a", "BYTES", (2,)),
        (b"\0\0", "BF16", (1,)),
    ],
)
def test_bytes_that_are_not_what_they_say_are_refused(raw: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(AnswerError):
        tensors.decode(raw, datatype, shape)


def test_lists_that_are_not_what_they_say_are_refused() -> None:
    with pytest.raises(AnswerError):
        tensors.decode_list([1, 2], "INT8", (3,))
    with pytest.raises(AnswerError, match="INT8"):
        tensors.decode_list([300], "INT8", (1,))


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ([300], "INT8"),
        ([-1], "UINT8"),
        ([1.5], "INT32"),
        ([math.nan], "INT32"),
        ([2], "BOOL"),
        ([1e39], "FP32"),
        ([70000.0], "FP16"),
        (["1"], "FP32"),
        ([1], "BF16"),
        (["2020-01-01"], "FP64"),
    ],
)
def test_values_that_do_not_fit_a_datatype_are_refused(values: Any, datatype: str) -> None:
    with pytest.raises(InputError):
        tensors.cast(values, datatype, "x")


@pytest.mark.parametrize(
    ("values", "datatype"), [([1.0, math.inf, math.nan], "FP32"), ([1, -3], "FP64"), ([True], "INT8"), ([0.0, 1.0], "BOOL")]
)
def test_values_that_fit_are_cast(values: Any, datatype: str) -> None:
    array = tensors.cast(values, datatype, "x")
    assert array.dtype == tensors.DTYPES[datatype]
    np.testing.assert_array_equal(array.astype(float), np.array(values, float))


@pytest.mark.parametrize("element", [3, None, "\ud800"])
def test_what_is_not_text_is_refused_in_bytes(element: object) -> None:
    with pytest.raises(InputError):
        tensors.encode(np.array([element], dtype=object), "BYTES")


def test_a_dtype_without_a_name_in_the_protocol_is_refused() -> None:
    with pytest.raises(InputError, match="complex"):
        tensors.datatype_of(np.array([1j]))
