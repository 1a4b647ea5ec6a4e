"""HTTP/2 by RFC 9113, section 8: requests that are well-formed and not; and header compression by RFC 7541."""

from collections.abc import Iterator

import numpy as np
import pytest
from hpack import Encoder

from tests.contracts.transport.calls import raw_floats, raw_request
from tests.contracts.transport.frames import (
    ANSWERED,
    END_HEADERS,
    END_STREAM,
    FIELDS,
    HEADER_TABLE_SIZE,
    HEADERS,
    MALFORMED,
    MESSAGE,
    PSEUDO,
    SETTINGS,
    Case,
    Fields,
    block,
    call,
    connection,
    data,
    frame,
    head,
    peer,
    settings,
)
from tests.daemons import Daemon

ROW = np.array([[1, 2, 3]], np.float32)
GRPC = FIELDS[len(PSEUDO) :]
UNSUPPORTED = frozenset({"status 12"})


def plus(*fields: tuple[str, str]) -> bytes:
    """A call with fields of its own."""
    return call(fields=[*FIELDS, *fields])


def without(name: str) -> bytes:
    """A call that lacks a field."""
    return call(fields=[field for field in FIELDS if field[0] != name])


def but(name: str, value: str) -> bytes:
    """A call of which one field has another value."""
    return call(fields=[(one, value if one == name else was) for one, was in FIELDS])


def coded(first: bytes) -> bytes:
    """A call whose block begins with what no encoder makes."""
    return frame(HEADERS, first + block(), END_HEADERS, 1) + data()


def ended(last: bytes) -> bytes:
    """A call whose block ends with what no encoder makes."""
    return frame(HEADERS, block() + last, END_HEADERS, 1) + data()


def trailers(fields: Fields, flags: int = END_STREAM) -> bytes:
    """A call with fields after its message."""
    return head() + data(flags=0) + head(fields=fields, flags=flags)


FRAMING = [
    Case("8.1", "trailers", trailers([("x-checksum", "7")])),
    Case("8.1", "trailers without a field", trailers([])),
    Case("8.1", "second headers that do not end the call", trailers([("x-checksum", "7")], 0), MALFORMED),
    # Malformed, but neither `h2` nor gRPC's C core minds, and nobody reads trailers of a client.
    Case("8.1", "trailers with a pseudo-header", trailers([(":path", "/")]), MALFORMED | ANSWERED),
    Case("8.1", "trailers with a header that is not a trailer's", trailers([("content-length", "1")]), MALFORMED | ANSWERED),
    Case("8.1", "headers alone, which end the call", head(flags=END_STREAM), UNSUPPORTED),
    Case("8.1.1", "content-length is right", plus(("content-length", str(len(MESSAGE))))),
    Case("8.1.1", "content-length is too small", plus(("content-length", "3")), MALFORMED),
    Case("8.1.1", "content-length is too large", plus(("content-length", "3000")), MALFORMED),
    Case("8.1.1", "content-length without content", head(fields=[*FIELDS, ("content-length", "9")], flags=END_STREAM), MALFORMED),
    Case("8.1.1", "content-length is no number", plus(("content-length", "many")), MALFORMED),
    Case(
        "8.1.1",
        "content-length of two frames",
        head(fields=[*FIELDS, ("content-length", "9")]) + data(MESSAGE[:5], 0) + data(MESSAGE[5:]),
        MALFORMED,
    ),
]
NAMES = [
    Case("8.2", "a header twice", plus(("x-a", "1"), ("x-a", "2"))),
    Case("8.2", "an empty value", plus(("x-a", ""))),
    Case("8.2.1", "an uppercase letter in a name", plus(("X-a", "1")), MALFORMED),
    Case("8.2.1", "an uppercase letter at the end", plus(("x-abcdefghij-K", "1")), MALFORMED),
    Case("8.2.1", "a space in a name", plus(("x a", "1")), MALFORMED),
    Case("8.2.1", "a colon in a name", plus(("x:a", "1")), MALFORMED),
    Case("8.2.1", "a control character in a name", plus(("x\x01a", "1")), MALFORMED),
    Case("8.2.1", "a name beyond ASCII", plus(("x\xe9", "1")), MALFORMED),
    Case("8.2.1", "DEL in a name", plus(("x\x7f", "1")), MALFORMED),
    Case("8.2.1", "an empty name", plus(("", "1")), MALFORMED),
    Case("8.2.1", "NUL in a value", plus(("x-a", "1\x002")), MALFORMED),
    Case("8.2.1", "a line feed in a value", plus(("x-a", "1\n2")), MALFORMED),
    Case("8.2.1", "a carriage return in a value", plus(("x-a", "1\r2")), MALFORMED),
    Case("8.2.2", "connection", plus(("connection", "keep-alive")), MALFORMED),
    Case("8.2.2", "keep-alive", plus(("keep-alive", "5")), MALFORMED),
    Case("8.2.2", "proxy-connection", plus(("proxy-connection", "keep-alive")), MALFORMED),
    Case("8.2.2", "transfer-encoding", plus(("transfer-encoding", "chunked")), MALFORMED),
    Case("8.2.2", "upgrade", plus(("upgrade", "h2c")), MALFORMED),
    Case("8.2.2", "te that is not trailers", but("te", "gzip"), MALFORMED),
    Case("8.2.3", "cookies in pieces", plus(("cookie", "a=b"), ("cookie", "c=d"))),
]
PSEUDO_HEADERS = [
    Case("8.3", "one that does not exist", call(fields=[*PSEUDO, (":tide", "high"), *GRPC]), MALFORMED),
    Case("8.3", "one of answers", call(fields=[*PSEUDO, (":status", "200"), *GRPC]), MALFORMED),
    Case("8.3", "after a header", call(fields=[*PSEUDO[:3], *GRPC, PSEUDO[3]]), MALFORMED),
    Case("8.3", "all after the headers", call(fields=[*GRPC, *PSEUDO]), MALFORMED),
    *(Case("8.3", f"{field[0]} twice", call(fields=[field, *FIELDS]), MALFORMED) for field in PSEUDO),
    *(Case("8.3.1", f"no {name}", without(name), MALFORMED) for name in (":method", ":scheme", ":path")),
    Case("8.3.1", "no :authority", without(":authority"), beyond_core=True),
    Case("8.3.1", "host in place of :authority", call(fields=[*PSEUDO[:3], *GRPC, ("host", "daemon")])),
    Case("8.3.1", "an empty :path", but(":path", ""), MALFORMED),
    Case("8.3.1", "a :path that does not begin with /", but(":path", "inference"), MALFORMED | UNSUPPORTED),
    Case("8.3.1", "https without TLS", but(":scheme", "https"), MALFORMED | ANSWERED),
    Case("8.5", "CONNECT", call(fields=[(":method", "CONNECT"), (":authority", "daemon"), *GRPC]), MALFORMED | {"HTTP 405"}),
    Case("8.5", "CONNECT with a path", but(":method", "CONNECT"), MALFORMED | {"HTTP 405"}),
]
COMPRESSION = connection("COMPRESSION_ERROR")
OVERLONG = b"\x7f" + b"\x80" * 12 + b"\x01"
"""An integer that does not end in time, as an index"""
STORED = b"\x40\x03x-a\x011"
"""Literal with incremental indexing: x-a: 1"""
HEADER_COMPRESSION = [
    Case("HPACK 2.3.3", "an index beyond both tables", ended(b"\xbe"), COMPRESSION),
    Case("HPACK 2.3.3", "an index beyond one entry", ended(STORED + b"\xbf"), COMPRESSION),
    Case("HPACK 2.3.3", "an entry of the table", ended(STORED + b"\xbe")),
    Case(
        "HPACK 2.3.3", "an entry of a call before", frame(HEADERS, block() + b"\xbe", 4, 3) + data(stream=3), first=ended(STORED), stream=3
    ),
    Case("HPACK 4.2", "a new size in the middle of a block", ended(b"\x20"), COMPRESSION),
    Case("HPACK 4.2", "a new size at the beginning", coded(b"\x20")),
    Case("HPACK 4.2", "two new sizes at the beginning", coded(b"\x20\x3f\xe1\x1f")),
    Case("HPACK 4.3", "an entry that was evicted", coded(STORED + b"\x88") + frame(HEADERS, b"\x20\xbe", 4, 3), COMPRESSION, 3),
    Case("HPACK 4.4", "an entry larger than the table", ended(b"\x40\x01x\x7f\xff\x1f" + b"y" * 4222)),
    Case("HPACK 5.1", "an index without end", ended(OVERLONG), COMPRESSION),
    Case("HPACK 5.1", "a length without end", ended(b"\x00" + OVERLONG), COMPRESSION),
    Case("HPACK 5.2", "padding of more than seven bits", ended(b"\x00\x01x\x82\x1f\xff"), COMPRESSION),
    Case("HPACK 5.2", "padding of zeros", ended(b"\x00\x01x\x81\x18"), COMPRESSION),
    Case("HPACK 5.2", "the symbol of the end", ended(b"\x00\x01x\x84\xff\xff\xff\xff"), COMPRESSION),
    Case("HPACK 5.2", "a text longer than the block", ended(b"\x00\x01x\x05y"), COMPRESSION),
    Case("HPACK 5.2", "a name longer than the block", ended(b"\x00\x7e"), COMPRESSION),
    Case("HPACK 6.1", "index 0", ended(b"\x80"), COMPRESSION),
    Case("HPACK 6.2.1", "a name that does not exist", ended(b"\x7e\x01y"), COMPRESSION),
    Case("HPACK 6.2.2", "a name that does not exist, not kept", ended(b"\x0f\x7f\x01y"), COMPRESSION),
    Case("HPACK 6.2.3", "a name that does not exist, never kept", ended(b"\x1f\x7f\x01y"), COMPRESSION),
    Case("HPACK 6.3", "a table larger than may be", coded(b"\x3f\xe1\xff\x7f"), COMPRESSION),
    Case("HPACK B", "all texts in Huffman's code", frame(HEADERS, Encoder().encode(FIELDS), 4, 1) + data()),
]


@pytest.fixture(autouse=True)
def others_are_answered(served: Daemon) -> Iterator[None]:
    yield
    assert (raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()


@pytest.mark.parametrize("case", [*FRAMING, *NAMES, *PSEUDO_HEADERS, *HEADER_COMPRESSION], ids=str)
def test_requests_have_what_the_specification_says(served: Daemon, transport: str, case: Case) -> None:
    case.check(served, transport)


def test_answers_need_no_table_where_the_client_has_none(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(settings((HEADER_TABLE_SIZE, 0)))
        assert next(one.kind for one in client.frames(5)) == SETTINGS
        for number in range(1, 9, 2):
            client.send(call(number))
            assert client.outcome(number) == "status 0"
        assert [client.fields[number]["content-type"] for number in range(1, 9, 2)] == ["application/grpc"] * 4
