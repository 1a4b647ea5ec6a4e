"""HTTP/2 by RFC 9113, sections 3 to 7: preface, frames and their types. Messages and header compression are tested beside this."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.contracts.transport.calls import raw_floats, raw_request
from tests.contracts.transport.frames import (
    ACK,
    ANSWERED,
    CONTINUATION,
    DATA,
    EMPTY,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MESSAGE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WEIGHTED,
    WINDOW_UPDATE,
    Case,
    block,
    call,
    connection,
    data,
    frame,
    head,
    peer,
    reset,
    settings,
    stream,
    watch,
    window,
)
from tests.daemons import Daemon

ROW = np.array([[1, 2, 3]], np.float32)
PARTS = [block()[:10], block()[10:30], block()[30:]]
UNKNOWN_FRAME = frame(0xFA, b"whatever", 0xFF, 1)
ACKNOWLEDGEMENT = frame(SETTINGS, b"", ACK)
LARGEST = (1 << 31) - 1

FRAMES = [
    Case("4.1", "a frame of an unknown type is ignored", UNKNOWN_FRAME + call()),
    Case("4.1", "a frame of an unknown type on stream 0 is ignored", frame(0xFB, b"x" * 16_384) + call()),
    Case("4.1", "unknown flags are ignored", frame(PING, b"12345678", 0xF6) + call(), beyond_core=True),
    Case("4.1", "the reserved bit of a stream is ignored", frame(PING, b"12345678", stream=1 << 31) + call()),
    Case("4.1", "the reserved bit of a call's stream is ignored", frame(HEADERS, block(), END_HEADERS, 1 | 1 << 31) + data()),
    Case("4.3", "a block in three frames", frame(HEADERS, PARTS[0], 0, 1) + frame(9, PARTS[1], 0, 1) + frame(9, PARTS[2], 4, 1) + data()),
    Case("4.3", "a block whose first frame is empty", frame(HEADERS, b"", 0, 1) + frame(CONTINUATION, block(), END_HEADERS, 1) + data()),
    Case("4.3", "a block whose last frame is empty", frame(HEADERS, block(), 0, 1) + frame(CONTINUATION, b"", END_HEADERS, 1) + data()),
    Case("4.3", "a block that cannot be decoded", frame(HEADERS, b"\xff" * 20, END_HEADERS, 1), connection("COMPRESSION_ERROR")),
    Case("4.3", "a block that ends in the middle of a field", frame(HEADERS, block()[:-3], 4, 1), connection("COMPRESSION_ERROR")),
    Case("4.3", "PRIORITY inside a block", frame(HEADERS, PARTS[0], 0, 1) + frame(PRIORITY, b"\0" * 5, 0, 3), connection()),
    Case("4.3", "another stream's headers inside a block", frame(HEADERS, PARTS[0], 0, 1) + call(3), connection()),
    Case("4.3", "DATA inside a block", frame(HEADERS, block(), 0, 1) + data(), connection()),
    Case("5.5", "an unknown frame inside a block", frame(HEADERS, block(), 0, 1) + UNKNOWN_FRAME, connection()),
    Case("5.5", "an unknown setting is ignored", settings((0xFA, 7), (0xFFFF, LARGEST)) + call()),
]
DATA_AND_HEADERS = [
    Case("6.1", "padded data", head() + data(b"\x05" + MESSAGE + b"\0" * 5, PADDED | END_STREAM), beyond_core=True),
    Case("6.1", "data padded with nothing", head() + data(b"\0" + MESSAGE, PADDED | END_STREAM), beyond_core=True),
    Case("6.1", "nothing but padding, then the message", head() + data(b"\xff" + b"\0" * 255, PADDED) + data(), beyond_core=True),
    Case("6.1", "an empty frame ends the call", head() + data(flags=0) + data(b"")),
    Case("6.1", "data on stream 0", head() + data(stream=0), connection()),
    Case("6.1", "padding as long as the frame", head() + data(b"\x06" + b"\0" * 5, PADDED), connection()),
    Case("6.1", "padding longer than the frame", head() + data(b"\xff", PADDED), connection()),
    Case("6.1", "a padded frame without a length", head() + data(b"", PADDED), connection("FRAME_SIZE_ERROR")),
    Case("6.2", "padded headers", frame(HEADERS, b"\x03" + block() + b"\0" * 3, END_HEADERS | PADDED, 1) + data(), beyond_core=True),
    Case("6.2", "headers with a priority", frame(HEADERS, b"\0\0\0\0\x10" + block(), END_HEADERS | WEIGHTED, 1) + data()),
    Case(
        "6.2",
        "both",
        frame(HEADERS, b"\x01\x80\0\0\0\xff" + block() + b"\0", END_HEADERS | PADDED | WEIGHTED, 1) + data(),
        beyond_core=True,
    ),
    Case("6.2", "headers on stream 0", head(0), connection()),
    Case("6.2", "padding longer than the headers", frame(HEADERS, b"\xff" + block()[:20], 4 | PADDED, 1), connection()),
    Case("6.2", "a padded frame without a length", frame(HEADERS, b"", END_HEADERS | PADDED, 1), connection("FRAME_SIZE_ERROR")),
    Case("6.2", "a priority of three bytes", frame(HEADERS, b"\0\0\0", END_HEADERS | WEIGHTED, 1), connection("FRAME_SIZE_ERROR")),
]
PRIORITIES_AND_RESETS = [
    Case("5.3", "a stream that depends on itself", frame(PRIORITY, b"\0\0\0\x03\x10", 0, 3) + call(), stream() | {"status 0"}),
    Case(
        "5.3",
        "headers that depend on themselves",
        frame(HEADERS, b"\0\0\0\x01\x10" + block(), END_HEADERS | WEIGHTED, 1) + data(),
        stream() | {"status 0"},
    ),
    Case("6.3", "PRIORITY of an idle stream", frame(PRIORITY, b"\0\0\0\0\x10", 0, 5) + call()),
    Case("6.3", "PRIORITY of a later stream that nothing follows", frame(PRIORITY, b"\0\0\0\x01\x10", 0, 99) + call()),
    Case("6.3", "PRIORITY of a call under way", head() + frame(PRIORITY, b"\0\0\0\0\x10", 0, 1) + data()),
    Case("6.3", "PRIORITY of a closed stream", frame(PRIORITY, b"\0\0\0\0\x10", 0, 1) + call(3), first=call(), stream=3),
    Case("6.3", "PRIORITY of stream 0", frame(PRIORITY, b"\0\0\0\x01\x10"), connection()),
    Case("6.3", "PRIORITY of four bytes", head() + frame(PRIORITY, b"\0\0\0\0", 0, 1), stream("FRAME_SIZE_ERROR")),
    Case("6.4", "a reset call is over, and the next is answered", head() + reset() + call(3), stream=3),
    Case("6.4", "a reset with an unknown code is one", head() + reset(code=0xFEDC) + call(3), stream=3),
    Case("6.4", "a reset of stream 0", reset(0), connection()),
    Case("6.4", "a reset of an idle stream", reset(1), connection()),
    Case("6.4", "a reset of three bytes", head() + frame(RST_STREAM, b"\0\0\0", 0, 1), connection("FRAME_SIZE_ERROR")),
    Case("6.4", "a reset of five bytes", head() + frame(RST_STREAM, b"\0" * 5, 0, 1), connection("FRAME_SIZE_ERROR")),
]
SETTINGS_AND_PINGS = [
    Case("6.5", "no setting at all", settings() + call()),
    Case("6.5", "an acknowledgement with a payload", frame(SETTINGS, b"\0\x02\0\0\0\0", ACK), connection("FRAME_SIZE_ERROR")),
    Case("6.5", "settings of a stream", frame(SETTINGS, b"", 0, 1), connection()),
    Case("6.5", "three bytes", frame(SETTINGS, b"\0\x03\0"), connection("FRAME_SIZE_ERROR")),
    Case("6.5.2", "push that is neither on nor off", settings((ENABLE_PUSH, 2)), connection()),
    Case("6.5.2", "push off", settings((ENABLE_PUSH, 0)) + call()),
    Case("6.5.2", "push on", settings((ENABLE_PUSH, 1)) + call()),
    Case("6.5.2", "a window too large", settings((INITIAL_WINDOW_SIZE, 1 << 31)), connection("FLOW_CONTROL_ERROR")),
    Case("6.5.2", "the largest window", settings((INITIAL_WINDOW_SIZE, LARGEST)) + call()),
    Case("6.5.2", "frames too small", settings((MAX_FRAME_SIZE, 16_383)), connection()),
    Case("6.5.2", "frames too large", settings((MAX_FRAME_SIZE, 1 << 24)), connection()),
    Case("6.5.2", "the largest frames", settings((MAX_FRAME_SIZE, (1 << 24) - 1)) + call()),
    Case("6.5.2", "no header table", settings((HEADER_TABLE_SIZE, 0)) + call()),
    Case("6.5.2", "a header table of 4 GiB", settings((HEADER_TABLE_SIZE, (1 << 32) - 1)) + call()),
    Case("6.5.2", "no stream of the server", settings((MAX_CONCURRENT_STREAMS, 0)) + call()),
    Case("6.5.3", "the last of two values counts", settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 65_535)) + call()),
    Case("6.6", "a promise of the client", head() + frame(PUSH_PROMISE, b"\0\0\0\x02" + block(), 4, 1), connection()),
    Case("6.6", "a promise on stream 0", frame(PUSH_PROMISE, b"\0\0\0\x02" + block(), 4), connection()),
    Case("6.7", "a ping of a stream", frame(PING, b"12345678", 0, 1), connection()),
    Case("6.7", "a ping of six bytes", frame(PING, b"123456"), connection("FRAME_SIZE_ERROR")),
    Case("6.7", "a ping of nine bytes", frame(PING, b"123456789"), connection("FRAME_SIZE_ERROR")),
    Case("6.7", "an answer to a ping that never was", frame(PING, b"12345678", ACK) + call()),
    Case("6.8", "GOAWAY of a stream", frame(GOAWAY, b"\0" * 8, 0, 1), connection()),
    Case("6.8", "GOAWAY of seven bytes", frame(GOAWAY, b"\0" * 7), connection("FRAME_SIZE_ERROR")),
    Case("6.8", "a call before GOAWAY is answered", call() + frame(GOAWAY, b"\0" * 8)),
]
WINDOWS_AND_CONTINUATIONS = [
    Case("6.9", "a window grown by nothing", window(0), connection()),
    Case("6.9", "a stream's window grown by nothing", head() + window(0, 1), stream()),
    Case("6.9", "three bytes", frame(WINDOW_UPDATE, b"\0\0\x01"), connection("FRAME_SIZE_ERROR")),
    Case("6.9", "the reserved bit is ignored", window(1 << 31 | 1) + call()),
    Case("6.9", "growth of a stream that has ended", window(1, 1) + call(3), first=call(), stream=3),
    Case("6.9.1", "a window too large", window(LARGEST), connection("FLOW_CONTROL_ERROR")),
    Case("6.9.1", "a stream's window too large", head() + window(LARGEST, 1), stream("FLOW_CONTROL_ERROR")),
    Case("6.9.1", "the largest window", window(LARGEST - 65_535) + call()),
    Case(
        "6.9.2", "settings that make a window too large", head() + window(1, 1) + settings((4, LARGEST)), connection("FLOW_CONTROL_ERROR")
    ),
    Case("6.10", "on stream 0", frame(HEADERS, PARTS[0], 0, 1) + frame(CONTINUATION, PARTS[1], 4, 0), connection()),
    Case("6.10", "after nothing", frame(CONTINUATION, block(), END_HEADERS, 1), connection()),
    Case("6.10", "after the end of a block", head() + frame(CONTINUATION, block([("a", "b")]), 4, 1), connection()),
    Case(
        "6.10",
        "after the end of a block in two frames",
        frame(HEADERS, PARTS[0], 0, 1) + frame(9, PARTS[1] + PARTS[2], 4, 1) + frame(9, b"", 4, 1),
        connection(),
    ),
    Case("6.10", "after DATA", head() + data(flags=0) + frame(CONTINUATION, block(), 4, 1), connection()),
    Case("6.10", "of another stream", frame(HEADERS, PARTS[0], 0, 1) + frame(9, PARTS[1], 4, 3), connection()),
    Case("7", "a reset with every code there is", b"".join(head(2 * n + 1) + reset(2 * n + 1, n) for n in range(14)) + call(29), stream=29),
]
STREAMS = [
    Case("5.1", "DATA of an idle stream", data(), connection()),
    Case("5.1", "WINDOW_UPDATE of an idle stream", window(100, 1), connection()),
    Case("5.1", "DATA after the end of a call under way", watch() + data(EMPTY), stream("STREAM_CLOSED")),
    Case("5.1", "headers after the end of a call under way", watch() + head(), stream("STREAM_CLOSED")),
    Case("5.1", "CONTINUATION after the end", watch() + frame(9, block(), 4, 1), connection("STREAM_CLOSED")),
    Case("5.1", "a larger window after the end of a call under way", watch() + window(100, 1) + call(3), stream=3),
    Case("5.1", "PRIORITY after the end of a call under way", watch() + frame(PRIORITY, b"\0\0\0\0\x10", 0, 1) + call(3), stream=3),
    Case("5.1", "a reset after the end of a call under way", watch() + reset() + call(3), stream=3),
    Case("5.1", "DATA after a reset", head() + reset() + data(), stream("STREAM_CLOSED")),
    Case("5.1", "headers after a reset", head() + reset() + head(), stream("STREAM_CLOSED")),
    Case("5.1", "a window after a reset", head() + reset() + window(100, 1) + call(3), stream=3),
    Case("5.1", "a reset after a reset", head() + reset() + reset() + call(3), stream=3),
    Case("5.1", "DATA after the answer", data(), stream("STREAM_CLOSED"), first=call()),
    Case("5.1", "headers after the answer", head(), connection("STREAM_CLOSED"), first=call()),
    Case("5.1", "a reset after the answer", reset() + call(3), first=call(), stream=3),
    Case("5.1.1", "an even stream", head(2), connection(), 2),
    Case("5.1.1", "a stream below one that was opened", call(5) + call(3), connection("STREAM_CLOSED"), 3),
    Case("5.1.1", "streams may be left out", call(101) + call(1001), stream=1001),
    Case("5.1.1", "the highest stream there is", call(LARGEST), stream=LARGEST),
    Case("5.1.2", "as many streams as may be", b"".join(head(2 * n + 1) for n in range(255)) + call(511), stream=511),
    Case("5.1.2", "one more", b"".join(head(2 * n + 1) for n in range(256)) + call(513), stream("REFUSED_STREAM"), 513),
]
ALL = [*FRAMES, *STREAMS, *DATA_AND_HEADERS, *PRIORITIES_AND_RESETS, *SETTINGS_AND_PINGS, *WINDOWS_AND_CONTINUATIONS]


@pytest.fixture(autouse=True)
def others_are_answered(served: Daemon) -> Iterator[None]:
    yield
    assert (raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()


@pytest.mark.parametrize("case", ALL, ids=str)
def test_frames_have_what_the_specification_says(served: Daemon, transport: str, case: Case) -> None:
    case.check(served, transport)


@pytest.mark.parametrize(
    ("greeting", "allowed"),
    [
        (PREFACE + settings() + call(), ANSWERED),
        (PREFACE.replace(b"SM", b"XX") + settings() + call(), connection()),
        (PREFACE + frame(PING, b"12345678") + call(), connection()),
        (PREFACE + call(), connection()),
        (PREFACE + ACKNOWLEDGEMENT + call(), connection()),
        (settings() + call(), connection()),
    ],
    ids=["right", "other letters", "a ping first", "a call first", "an acknowledgement first", "none"],
)
def test_preface_is_what_section_3_4_says(served: Daemon, transport: str, greeting: bytes, allowed: frozenset[str]) -> None:
    if transport == "grpcio" and greeting == PREFACE + ACKNOWLEDGEMENT + call():
        allowed = ANSWERED  # gRPC's C core takes any SETTINGS frame
    with peer(served.address, greeting) as client:
        assert client.outcome() in allowed


def test_preface_and_call_byte_by_byte_are_answered(served: Daemon) -> None:
    with peer(served.address, b"") as client:
        for byte in PREFACE + settings() + call():
            client.send(bytes([byte]))
        assert client.outcome() == "status 0"


def test_settings_come_first_and_are_acknowledged(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(frame(PING, b"the-mark"))
        came = []
        for one in client.frames(5):
            came.append((one.kind, one.flags & ACK, one.payload))
            if {(SETTINGS, ACK, b""), (PING, ACK, b"the-mark")} <= set(came):
                break
    assert came[0][:2] == (SETTINGS, 0)
    assert len(came) == len(set(came))


@pytest.mark.parametrize("kind", [DATA, HEADERS, CONTINUATION, PING, SETTINGS, 0xFA])
def test_frames_are_as_large_as_was_announced(served: Daemon, transport: str, kind: int) -> None:
    with peer(served.address) as client:
        announced = next(one.payload for one in client.frames(5) if one.kind == SETTINGS)
        pairs = {int.from_bytes(announced[at : at + 2]): int.from_bytes(announced[at + 2 : at + 6]) for at in range(0, len(announced), 6)}
        size = pairs.get(MAX_FRAME_SIZE, 16_384)
        client.send(head() if kind == DATA else frame(HEADERS, block(), 0, 1) if kind == CONTINUATION else b"")
        client.send(frame(kind, b"\0" * (size + 1), stream=0 if kind in {PING, SETTINGS, 0xFA} else 1))
        # gRPC's C core answers a call under way before it hangs up.
        assert client.outcome() in stream("FRAME_SIZE_ERROR") | ({"status 14"} if transport == "grpcio" else set())


def many_rows(number: int) -> bytes:
    """A call of 12 bytes a row, as its answer has, in frames as large as may be."""
    request = raw_request("scaled", {"numeric": np.ones((number, 3), np.float32)}).SerializeToString()
    message = b"\0" + len(request).to_bytes(4) + request
    parts = [message[at : at + 16_384] for at in range(0, len(message), 16_384)]
    return b"".join(data(part, END_STREAM * (part is parts[-1])) for part in parts)


def test_the_largest_frame_is_taken(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head() + many_rows(2000))
        assert client.outcome() == "status 0"


def answer_frames(client_window: int, grants: list[bytes], served: Daemon) -> list[list[int]]:
    """The sizes of the DATA frames of an answer that came after each grant."""
    sizes = []
    with peer(served.address, PREFACE + settings((INITIAL_WINDOW_SIZE, client_window))) as client:
        client.send(call())
        for grant in grants:
            client.send(grant)
            came = []
            for one in client.frames(0.3):
                if one.kind == DATA:
                    came.append(len(one.payload))
                if one.flags & END_STREAM and one.kind in {DATA, HEADERS}:
                    break
            sizes.append(came)
    return sizes


def test_an_answer_keeps_to_the_window(served: Daemon) -> None:
    assert [sum(one) for one in answer_frames(0, [b"", window(1, 1), window(2, 1), settings((INITIAL_WINDOW_SIZE, 3))], served)] == [
        0,
        1,
        2,
        3,
    ]


def test_a_window_below_zero_is_made_up_for_first(served: Daemon) -> None:
    shrunk = settings((INITIAL_WINDOW_SIZE, 0))
    assert [sum(one) for one in answer_frames(5, [b"", shrunk, window(5, 1), window(2, 1)], served)] == [5, 0, 0, 2]


def test_the_window_of_the_connection_holds_whatever_that_of_a_stream_is(served: Daemon) -> None:
    with peer(served.address, PREFACE + settings((INITIAL_WINDOW_SIZE, LARGEST), (MAX_FRAME_SIZE, 1 << 20)) + window(1000)) as client:
        client.send(head() + many_rows(5000))
        came = sum(len(one.payload) for one in client.frames(0.5) if one.kind == DATA)
        client.send(call(3) + call(5))
        came += sum(len(one.payload) for one in client.frames(0.5) if one.kind == DATA)
        assert 60_000 < came <= 65_535 + 1000
        client.send(b"".join(call(2 * number + 7) for number in range(100)))
        came += sum(len(one.payload) for one in client.frames(0.5) if one.kind == DATA)
        assert came == 65_535 + 1000
        client.send(window(LARGEST - came))
        assert client.outcome(205) == "status 0"


def test_an_answer_comes_in_frames_no_larger_than_the_client_takes(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(head() + many_rows(4000))
        assert max(len(one.payload) for one in client.frames(0.5)) <= 16_384


def test_a_connection_in_error_ends_soon(served: Daemon) -> None:
    with peer(served.address) as client:
        client.send(frame(PING, b"123456"))
        begun = time.monotonic()
        list(client.frames(5))
        assert client.ended
        assert time.monotonic() - begun < 3
