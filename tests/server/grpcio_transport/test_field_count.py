"""A request of very many fields or typed numbers is refused before it is parsed, wherever they stand; every other is let through."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InputMismatchError
from server.grpcio_transport.field_count import MAX_FIELDS, MAX_PACKED_BYTES, SMALL_BYTES, check_fields
from tidegate_protos import inference_pb2 as pb


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def _within(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


EMPTY_INPUTS = b"\x2a\x00" * (MAX_FIELDS + 1)
EMPTY_TEXTS = _within(5, _within(5, b"\x42\x00" * (MAX_FIELDS + 1)))
EMPTY_PARAMETERS = _within(5, b"\x22\x00" * (MAX_FIELDS + 1))
EMPTY_PARAMETERS_OF_AN_OUTPUT = _within(6, b"\x12\x00" * (MAX_FIELDS + 1))
MANY = {"inputs": EMPTY_INPUTS, "texts": EMPTY_TEXTS, "parameters": EMPTY_PARAMETERS, "output": EMPTY_PARAMETERS_OF_AN_OUTPUT}


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
def test_too_many_fields_are_refused_wherever_they_stand(data: bytes) -> None:
    pb.ModelInferRequest.FromString(data)
    with pytest.raises(InputMismatchError, match="fields"):
        check_fields(data)


def test_a_walk_ends_at_the_bound_however_long_the_request_is() -> None:
    started = time.process_time()
    with pytest.raises(InputMismatchError):
        check_fields(b"\x2a\x00" * 10_000_000)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("field", [*range(1, 8), None], ids=str)
def test_more_packed_numbers_than_may_be_are_refused_in_every_field(field: int | None) -> None:
    def request(size: int) -> bytes:
        return _within(5, _within(3, bytes(size)) if field is None else _within(5, _within(field, bytes(size))))

    check_fields(request(MAX_PACKED_BYTES))
    with pytest.raises(InputMismatchError, match="raw_input_contents"):
        check_fields(request(MAX_PACKED_BYTES + 1))
    with pytest.raises(InputMismatchError, match="raw_input_contents"):
        check_fields(request(MAX_PACKED_BYTES // 2 + 1) * 2)


def test_a_request_too_small_for_too_many_fields_is_not_walked() -> None:
    started = time.process_time()
    check_fields(b"\x2a\x00" * (SMALL_BYTES // 2))
    assert time.process_time() - started < 0.02  # the walk takes ten times as long, on the thread that serves all


def test_a_large_request_of_few_fields_is_let_through() -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="numeric", datatype="FP32", shape=[1 << 20])
    check_fields(pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[bytes(4 << 20)]).SerializeToString())
    tensor.contents.bytes_contents.extend([b"text"] * (MAX_FIELDS - 100))
    check_fields(pb.ModelInferRequest(inputs=[tensor]).SerializeToString())


@given(st.binary(max_size=200), st.integers(0, 40))
def test_bytes_that_are_no_message_are_left_to_the_parser(noise: bytes, place: int) -> None:
    end = _within(7, b"\x07" * 100)  # wherever the noise makes it be read from, it is no run of fields
    check_fields(bytes(place) + noise + end * (SMALL_BYTES // len(end) + 1))
