"""One request may be written in many ways: what the reference parser takes every transport takes, and what it refuses none takes."""

import struct

import grpc
import numpy as np
import pytest

from tests.contracts.transport.calls import raw_floats, reason
from tests.contracts.transport.encoding import FIXED32, FIXED64, GROUP, GROUP_END, VARINT, field, group, tag, varint
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import Daemon
from tidegate_protos import inference_pb2 as pb

MODEL = field(1, b"scaled")
NAME, FP32, SHAPE = field(1, b"numeric"), field(2, b"FP32"), field(3, b"\x01\x03")
ROW = struct.pack("<3f", 1, 2, 3)
RAW = field(7, ROW)
HEAD = field(5, NAME, FP32, SHAPE)
PLAIN = MODEL + HEAD + RAW
EMPTY_GROUP = group(100)


def typed(*contents: bytes, head: bytes = NAME + FP32 + SHAPE) -> bytes:
    return MODEL + field(5, head, *contents)


def number(place: int) -> bytes:
    return tag(6, FIXED32) + ROW[4 * place : 4 * place + 4]


def parameter(key: str, *choice: bytes) -> bytes:
    return field(4, field(1, key.encode()), field(2, *choice))


PRIORITY = tag(2, VARINT) + b"\x01"
TAKEN = {
    "group": EMPTY_GROUP + PLAIN + EMPTY_GROUP,
    "group in group": group(100, group(7, field(1, b"\xff")), tag(5, FIXED32) + b"\0" * 4, tag(6, FIXED64) + b"\0" * 8) + PLAIN,
    "group of a known number": group(5, field(1, b"numeric")) + PLAIN,
    "group in an input": MODEL + field(5, EMPTY_GROUP, NAME, FP32, SHAPE) + RAW,
    "group in contents": typed(field(5, EMPTY_GROUP, field(6, ROW))),
    "group in an output": PLAIN + field(6, field(1, b"scaled"), EMPTY_GROUP),
    "group in a parameter": PLAIN + field(4, field(1, b"other"), EMPTY_GROUP, field(2, EMPTY_GROUP)),
    "groups as deep as may be": tag(100, GROUP) * 100 + tag(100, GROUP_END) * 100 + PLAIN,
    "fields of another kind": b"".join(tag(place, VARINT) + b"\x01" for place in range(1, 8)) + PLAIN,
    "fields of another kind in an input": MODEL
    + field(5, *(tag(place, FIXED32) + ROW[:4] for place in range(1, 6)), NAME, FP32, SHAPE)
    + RAW,
    "contents of another kind": typed(field(5, *(tag(place, FIXED64) + b"\0" * 8 for place in (*range(1, 7), 8)), field(6, ROW))),
    "no contents of other types": typed(field(5, *(field(place) for place in range(1, 8)), field(6, ROW))),
    "contents in parts": typed(field(5, number(0)), field(5, field(6, ROW[4:8])), field(5, number(2))),
    "numbers one by one and packed": typed(field(5, number(0), field(6, ROW[4:8]), number(2))),
    "shape one by one": MODEL + field(5, NAME, FP32, tag(3, VARINT) + b"\x01", tag(3, VARINT) + b"\x03") + RAW,
    "sizes longer than they need be": MODEL + field(5, NAME, FP32, field(3, b"\x81\x80\x00\x83\x00")) + RAW,
    "tag longer than it need be": b"\x8a\x80\x80\x80\x00" + b"\x06scaled" + HEAD + RAW,
    "length longer than it need be": b"\x0a\x86\x80\x80\x80\x80\x00scaled" + HEAD + RAW,
    "any order": RAW + field(5, SHAPE, FP32, NAME) + MODEL,
    "the last of a field": field(1, b"other") + field(2, b"production") + PLAIN + field(2, b""),
    "the last of a parameter": PLAIN + parameter("priority", field(3, b"high")) + parameter("priority", PRIORITY),
    "a choice made twice": PLAIN + parameter("priority", field(3, b"high"), PRIORITY),
    "a parameter in parts": PLAIN + field(4, field(1, b"priority"), field(2, PRIORITY), field(2)),
    "a choice of another kind": PLAIN + parameter("priority", PRIORITY, tag(3, VARINT) + b"\x01", tag(2, FIXED32) + ROW[:4]),
    "a parameter without a name": PLAIN + field(4) + field(4, tag(1, VARINT) + b"\x01"),
    "a parameter with a field that nobody knows": PLAIN
    + field(4, field(1, b"priority"), field(2, field(3, b"high")), tag(9, VARINT) + b"\x01"),
    "a parameter with a group": PLAIN + field(4, field(1, b"priority"), EMPTY_GROUP),
    "the highest number of a field": PLAIN + tag(2**29 - 1, VARINT) + b"\x00",
}
REFUSED = {
    "group that does not end": PLAIN + tag(100, GROUP),
    "group that did not begin": PLAIN + tag(100, GROUP_END),
    "group that ends as another": PLAIN + tag(100, GROUP) + tag(101, GROUP_END),
    "group with a field without a number": PLAIN + group(100, b"\0\0"),
    "groups too deep": PLAIN + tag(100, GROUP) * 101 + tag(100, GROUP_END) * 101,
    "groups too deep in an input": PLAIN + field(5, tag(100, GROUP) * 100, tag(100, GROUP_END) * 100),
    "tag of six bytes": b"\x8a\x80\x80\x80\x80\x00" + b"\x06scaled" + HEAD + RAW,
    "number of a field beyond the highest": PLAIN + tag(2**29, VARINT) + b"\x00",
    "tag of more than 32 bits": PLAIN + varint(1 << 32 | 8) + b"\x00",
    "numbers cut between two fields": typed(field(5, field(6, ROW[:6]), field(6, ROW[6:]))),
    "contents cut between two fields": typed(field(5, field(6, ROW)[:5]), field(5, field(6, ROW)[5:])),
    "contents of another type": typed(field(5, field(6, ROW), tag(7, FIXED64) + b"\0" * 8)),
    "contents beside raw ones": MODEL + field(5, NAME, FP32, SHAPE, field(5)) + RAW,
    "a parameter that lost its choice": PLAIN + parameter("priority", PRIORITY) + parameter("priority"),
    "a parameter of ours that does not exist": PLAIN + parameter("tidegate_other"),
    "text that is not UTF-8 where nobody looks": PLAIN + field(4, field(1, b"other"), field(2, field(3, b"\xff"))),
    "no numbers of a type that has no typed form": MODEL + field(5, NAME, field(2, b"FP16"), field(3, b"\x00\x03")),
}


def send(served: Daemon, data: bytes) -> bytes:
    with grpc.insecure_channel(served.address) as channel:
        answer: bytes = channel.unary_unary(MODEL_INFER, bytes, bytes)(data, timeout=10)
        return answer


@pytest.mark.parametrize("form", TAKEN)
def test_form_of_the_request_is_taken(served: Daemon, form: str) -> None:
    answer = pb.ModelInferResponse.FromString(send(served, TAKEN[form]))
    values = raw_floats(answer) if answer.raw_output_contents else np.array(answer.outputs[0].contents.fp32_contents, np.float32)
    assert values.ravel().tolist() == [2, 4, 6]


@pytest.mark.parametrize("form", REFUSED)
def test_form_that_is_no_request_is_refused(served: Daemon, form: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        send(served, REFUSED[form])
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_MISMATCH"), caught.value
