"""gRPC over HTTP/2, as its specification ("gRPC over HTTP2") has it: messages however they are cut, encodings, timeouts, metadata."""

import base64
import gzip
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from tests.contracts.transport.calls import in_flight, raw_floats, raw_request
from tests.contracts.transport.frames import (
    DATA,
    EMPTY,
    END_STREAM,
    FIELDS,
    MESSAGE,
    REQUEST,
    Fields,
    call,
    data,
    head,
    peer,
    reset,
)
from tests.daemons import Daemon, wait_until
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
OK, INVALID_ARGUMENT, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL = (f"status {code}" for code in (0, 3, 4, 8, 12, 13))
NOT_FOUND = "status 5"
OF_THE_C_CORE = frozenset({NOT_FOUND, UNIMPLEMENTED, INTERNAL})
"""What gRPC's C core makes of a message it cannot read: none, an empty one (a model without a name), or a failure"""


@pytest.fixture(autouse=True)
def others_are_answered(served: Daemon) -> Iterator[None]:
    yield
    assert (raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()
    wait_until(lambda: in_flight(served) == 0, "requests are in flight for ever", 5)


def but(**changed: str) -> Fields:
    """The headers of a call with some of another value, or beside the others; `path` stands for `:path`."""
    named = {":" + name if name in {"path", "method", "scheme"} else name.replace("_", "-"): value for name, value in changed.items()}
    return [*((name, named.pop(name, value)) for name, value in FIELDS), *named.items()]


def framed(message: bytes, packed: int = 0) -> bytes:
    """A message with its prefix."""
    return bytes([packed]) + len(message).to_bytes(4) + message


def became(served: Daemon, sent: bytes) -> str:
    with peer(served.address) as client:
        client.send(sent)
        return client.outcome()


def in_pieces(message: bytes, size: int) -> bytes:
    return b"".join(data(message[at : at + size], 0) for at in range(0, len(message), size)) + data(b"")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7])
def test_a_message_is_read_however_it_is_cut(served: Daemon, size: int) -> None:
    assert became(served, head() + in_pieces(MESSAGE, size)) == OK


def test_messages_of_a_stream_are_read_however_they_are_cut(served: Daemon) -> None:
    for size in (1, 5, 7, 100, 16_384):
        with peer(served.address) as client:
            client.send(head(fields=but(path=STREAM_INFER)) + in_pieces(MESSAGE * 20, size))
            answers = b""
            for one in client.frames(5):
                answers += one.payload if one.kind == DATA else b""
                if one.flags & END_STREAM and one.stream == 1 and one.kind <= 1:
                    break
        responses = []
        while answers:
            length = int.from_bytes(answers[1:5])
            responses.append(pb.ModelStreamInferResponse.FromString(answers[5 : 5 + length]))
            answers = answers[5 + length :]
        assert [raw_floats(response.infer_response).tolist() for response in responses] == [(ROW * 2).tolist()] * 20


def test_a_call_may_be_ended_after_its_message(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head() + data(flags=0))
        assert [one for one in client.frames(0.2) if one.stream == 1 and one.flags & END_STREAM and one.kind == DATA] == []
        client.send(data(b""))
        assert client.fields.get(1, {}).get("grpc-status") == "0" or client.outcome() == OK


def test_trailers_of_the_client_end_its_call(served: Daemon) -> None:
    assert became(served, head() + data(flags=0) + head(fields=[("x-sum", "7")], flags=END_STREAM)) == OK


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        (b"", {UNIMPLEMENTED}),
        (EMPTY, {INVALID_ARGUMENT, NOT_FOUND}),
        (MESSAGE[:-1], {INTERNAL}),
        (MESSAGE[:3], {INTERNAL}),
        (MESSAGE + MESSAGE[:7], {OK, INTERNAL}),
        (MESSAGE * 3, {OK, UNIMPLEMENTED, INTERNAL}),
        (b"\0" + (1 << 31).to_bytes(4) + b"x", {EXHAUSTED}),
        (b"\0\xff\xff\xff\xff", {EXHAUSTED}),
        (framed(REQUEST, 1), {INTERNAL, UNIMPLEMENTED}),
        (framed(REQUEST, 2), {INTERNAL, UNIMPLEMENTED}),
        (framed(REQUEST, 255), {INTERNAL, UNIMPLEMENTED}),
    ],
    ids=["none", "empty", "cut", "cut in its prefix", "more after it", "three", "2 GiB", "4 GiB", "packed", "flag 2", "flag 255"],
)
def test_a_body_that_is_not_one_message_has_a_status(served: Daemon, transport: str, body: bytes, allowed: set[str]) -> None:
    assert became(served, head() + data(body)) in (allowed if transport == "native" else allowed | OF_THE_C_CORE)


@pytest.mark.parametrize(
    ("encoding", "message", "allowed"),
    [
        ("gzip", framed(gzip.compress(REQUEST), 1), {OK}),
        ("deflate", framed(zlib.compress(REQUEST), 1), {OK}),
        ("gzip", MESSAGE, {OK}),
        ("identity", MESSAGE, {OK}),
        ("identity", framed(REQUEST, 1), {INTERNAL, UNIMPLEMENTED}),
        ("gzip", framed(REQUEST, 1), {INTERNAL}),
        ("gzip", framed(gzip.compress(REQUEST)[:-9], 1), {INTERNAL}),
        ("gzip", framed(b"", 1), {INTERNAL}),
        ("snappy", framed(REQUEST, 1), {UNIMPLEMENTED}),
        ("snappy", MESSAGE, {OK, INTERNAL}),
    ],
)
def test_encodings_are_read_or_refused(served: Daemon, transport: str, encoding: str, message: bytes, allowed: set[str]) -> None:
    sent = head(fields=but(grpc_encoding=encoding)) + data(message)
    assert became(served, sent) in (allowed if transport == "native" or OK in allowed else allowed | OF_THE_C_CORE)


def test_who_packs_in_an_unknown_way_is_told_which_are_known(served: Daemon, transport: str) -> None:
    if transport == "grpcio":
        pytest.skip("gRPC's C core calls it INTERNAL and names none")
    with peer(served.address) as client:
        client.send(head(fields=but(grpc_encoding="snappy")) + data(framed(REQUEST, 1)))
        assert client.outcome() == UNIMPLEMENTED
        assert {"gzip", "deflate"} <= {one.strip() for one in client.fields[1]["grpc-accept-encoding"].split(",")}


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_content_types_of_grpc_are_taken(served: Daemon, kind: str) -> None:
    assert became(served, call(fields=but(content_type=kind))) == OK


@pytest.mark.parametrize("kind", ["application/json", "application/grp", "text/plain", ""])
def test_other_content_types_are_no_calls(served: Daemon, transport: str, kind: str) -> None:
    if transport == "grpcio":
        pytest.skip("gRPC's C core takes any content type that is sent by POST")
    assert became(served, call(fields=but(content_type=kind))) == "HTTP 415"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
def test_other_methods_are_no_calls(served: Daemon, method: str) -> None:
    assert became(served, call(fields=but(method=method))) != OK


def test_a_call_without_te_is_answered_or_reset(served: Daemon) -> None:
    assert became(served, call(fields=[field for field in FIELDS if field[0] != "te"])) in {OK, "RST_STREAM INTERNAL_ERROR"}


@pytest.mark.parametrize(
    "path", ["/", "//", "/nobody", "/inference.GRPCInferenceService/", "/inference.GRPCInferenceService/modelinfer", "/" + "x" * 4000]
)
def test_paths_that_are_nobodys_are_unimplemented(served: Daemon, path: str) -> None:
    assert became(served, call(fields=but(path=path))) == UNIMPLEMENTED


def test_a_path_larger_than_metadata_may_be_ends_the_call_alone(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head(fields=but(path="/" + "x" * 16_200)) + data(EMPTY))
        assert client.outcome() in {EXHAUSTED, UNIMPLEMENTED}
        client.send(call(3))
        assert client.outcome(3) == OK


@pytest.mark.parametrize("timeout", ["1H", "99999999H", "1M", "10S", "90000m", "99999999u", "99999999n", "00000010S"])
def test_timeouts_are_read(served: Daemon, timeout: str) -> None:
    assert became(served, call(fields=but(grpc_timeout=timeout))) == OK


@pytest.mark.parametrize("timeout", ["0n", "0S", "0H"])
def test_a_timeout_that_is_over_is_over(served: Daemon, timeout: str) -> None:
    assert became(served, call(fields=but(grpc_timeout=timeout))) == DEADLINE


def test_a_timeout_of_a_nanosecond_is_over_or_as_long_as_the_shortest_the_transport_knows(served: Daemon) -> None:
    # gRPC's C core counts milliseconds: a quick answer is in time.
    assert became(served, call(fields=but(grpc_timeout="1n"))) in {DEADLINE, OK}


@pytest.mark.parametrize("timeout", ["", "S", "10", "-1S", "1.5S", "1 S", "1x", "123456789S", "\u00b9S", "S1", "1SS", "9" * 4000 + "S"])
def test_a_timeout_that_is_none_is_ignored_or_refused(served: Daemon, timeout: str) -> None:
    assert became(served, call(fields=but(grpc_timeout=timeout))) in {OK, INTERNAL, DEADLINE, INVALID_ARGUMENT}


def test_a_call_without_its_message_ends_with_its_deadline(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head(fields=but(grpc_timeout="200m")) + data(MESSAGE[:20], 0))
        assert client.outcome() in {DEADLINE, "RST_STREAM CANCEL"}


@pytest.mark.parametrize("value", [base64.b64encode(bytes(range(256))).decode(), "AAE", "AAE=", ""])
def test_binary_metadata_are_taken_with_and_without_padding(served: Daemon, value: str) -> None:
    assert became(served, call(fields=but(x_trace_bin=value))) == OK


@pytest.mark.parametrize("value", ["!", "A", "A===", "AAE=AAE=", "AA==,AAE=", "\u00ff"])
def test_binary_metadata_that_are_no_base64_end_nothing_but_the_call(served: Daemon, value: str) -> None:
    with peer(served.address) as client:
        client.send(call(fields=but(x_trace_bin=value)))
        client.outcome()
        client.send(call(3))
        assert client.outcome(3) == OK


def test_a_call_reset_before_during_and_after_its_message_is_over(served: Daemon) -> None:
    whole = head() + data()
    with peer(served.address) as client:
        for number in range(1, 41, 2):
            parts = (head(number), data(MESSAGE[: number + 2], 0, number), data(MESSAGE[number + 2 :], stream=number))
            client.send(b"".join(parts[: 1 + number % 3]) + reset(number))
        client.send(call(41))
        assert client.outcome(41) == OK
    assert became(served, whole) == OK


def test_an_answer_has_the_headers_of_the_specification(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(call())
        assert client.outcome() == OK
        assert client.fields[1][":status"] == "200"
        assert client.fields[1]["content-type"].startswith("application/grpc")
        client.send(call(3, but(path="/nobody")))
        assert client.outcome(3) == UNIMPLEMENTED
        assert client.fields[3][":status"] == "200"
        assert client.fields[3]["content-type"].startswith("application/grpc")


def test_messages_of_refusals_are_percent_encoded(served: Daemon) -> None:
    request = raw_request("näm%e\n", {"numeric": ROW}).SerializeToString()
    with peer(served.address) as client:
        client.send(head() + data(framed(request)))
        assert client.outcome() == NOT_FOUND
        said = client.fields[1]["grpc-message"]
        assert said.isascii()
        assert "n%C3%A4m%25e" in said


def test_calls_of_one_connection_do_not_wait_for_each_other(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head() + data(MESSAGE[:10], 0) + call(3) + call(5, but(path=LIVE)))
        assert client.outcome(3) == OK
        client.send(data(MESSAGE[10:]))
        assert client.outcome() == OK
