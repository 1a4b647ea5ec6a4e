"""Frames of HTTP/2 (RFC 9113), right and wrong, as bytes; a peer that sends them, and what became of it. No test lives here."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

from tests.contracts.transport.calls import raw_request
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import Daemon

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WEIGHTED = 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)

PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", MODEL_INFER), (":authority", "daemon")]
FIELDS = [*PSEUDO, ("te", "trailers"), ("content-type", "application/grpc")]
WATCH = [(name, "/grpc.health.v1.Health/Watch" if name == ":path" else value) for name, value in FIELDS]
REQUEST = raw_request("scaled", {"numeric": np.array([[1, 2, 3]], np.float32)}).SerializeToString()
MESSAGE = b"\0" + len(REQUEST).to_bytes(4) + REQUEST
EMPTY = b"\0\0\0\0\0"

Fields = Sequence[tuple[str, str]]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """One frame, whatever its parts."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, b"".join(code.to_bytes(2) + value.to_bytes(4) for code, value in pairs))


def block(fields: Fields = FIELDS) -> bytes:
    """A header block that needs no table and leaves none."""
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False))


def head(stream: int = 1, fields: Fields = FIELDS, flags: int = 0) -> bytes:
    """All headers of a call in one frame."""
    return frame(HEADERS, block(fields), END_HEADERS | flags, stream)


def data(payload: bytes = MESSAGE, flags: int = END_STREAM, stream: int = 1) -> bytes:
    """A DATA frame."""
    return frame(DATA, payload, flags, stream)


def call(stream: int = 1, fields: Fields = FIELDS) -> bytes:
    """A whole unary call."""
    return head(stream, fields) + data(stream=stream)


def watch(stream: int = 1) -> bytes:
    """A call that has ended on this side and does not end on the other."""
    return head(stream, WATCH) + data(EMPTY, stream=stream)


def window(increment: int, stream: int = 0) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, increment.to_bytes(4), stream=stream)


def reset(stream: int = 1, code: int = 8) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, code.to_bytes(4), stream=stream)


def connection(*codes: str) -> frozenset[str]:
    """The connection ends, with one of these codes if it says one (section 5.4.1: it should).

    PROTOCOL_ERROR stands for each of them: the crate `h2` has no other name for most errors, and no client does anything else for one.
    """
    return frozenset({"closed", *(f"GOAWAY {code}" for code in {"PROTOCOL_ERROR", *codes})})


def stream(*codes: str) -> frozenset[str]:
    """The stream ends, or the connection: an error of a stream may be taken for one of the connection (section 5.4.2)."""
    return connection(*codes) | {f"RST_STREAM {code}" for code in {"PROTOCOL_ERROR", *codes}}


ANSWERED = frozenset({"status 0"})
MALFORMED = stream() | {"HTTP 400"}
"""Section 8.1.1: an error of the stream, before which it may be answered"""


class Frame(NamedTuple):
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """The client's end of a connection, on which nothing is sent that is not asked for."""

    def __init__(self, address: str, greeting: bytes = PREFACE + settings()) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder()
        self._rest = b""
        self.fields: dict[int, dict[str, str]] = {}
        self.ended = False
        self.send(greeting)

    def send(self, sent: bytes) -> None:
        """Send; whoever hangs up in the middle of it is noticed when reading."""
        with contextlib.suppress(OSError):
            self.socket.sendall(sent)

    def frames(self, seconds: float) -> Iterator[Frame]:
        """What comes until so many seconds from now, or to the end."""
        deadline = time.monotonic() + seconds
        yield from self._whole()  # what came with the last that was looked at
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                came = self.socket.recv(65_536)
            except TimeoutError:
                return
            except OSError:
                came = b""
            if not came:
                self.ended = True
                return
            self._rest += came
            yield from self._whole()

    def until(self, *kinds: int) -> list[Frame]:
        """What comes up to a frame of one of these kinds, within five seconds."""
        came = []
        for one in self.frames(5):
            came.append(one)
            if one.kind in kinds:
                break
        return came

    def _whole(self) -> Iterator[Frame]:
        while len(self._rest) >= 9 and len(self._rest) >= (end := 9 + int.from_bytes(self._rest[:3])):
            whole, self._rest = self._rest[:end], self._rest[end:]
            came = Frame(whole[3], whole[4], int.from_bytes(whole[5:9]), whole[9:])
            if came.kind == HEADERS:
                read = {str(name): str(value) for name, value in self._decoder.decode(came.payload)}
                self.fields[came.stream] = self.fields.get(came.stream, {}) | read
            yield came

    def outcome(self, number: int = 1, seconds: float = 3) -> str:
        """What becomes of a stream, or of the connection before that."""
        for kind, flags, where, payload in self.frames(seconds):
            if kind == GOAWAY and (code := int.from_bytes(payload[4:8])):
                list(self.frames(seconds))
                return f"GOAWAY {ErrorCodes(code).name}" + ("" if self.ended else " and open")
            if where == number and kind == RST_STREAM:
                return f"RST_STREAM {ErrorCodes(int.from_bytes(payload)).name}"
            if where == number and kind in {HEADERS, DATA} and flags & END_STREAM:
                said = self.fields[number]
                return f"status {said.get('grpc-status')}" if said[":status"] == "200" else f"HTTP {said[':status']}"
        return "closed" if self.ended else "silence"


@contextlib.contextmanager
def peer(address: str, greeting: bytes = PREFACE + settings()) -> Iterator[Peer]:
    """A connection, closed at the end of the block."""
    connected = Peer(address, greeting)
    with contextlib.closing(connected.socket):
        yield connected


@dataclass(frozen=True)
class Case:
    """What is sent, and what may become of `stream`. `first` is sent before, and answered on stream 1 before the rest follows.

    gRPC's C core reads HTTP/2 leniently: it ignores frames of streams it does not know, answers most malformed requests, and a call under
    way before it hangs up. That is not ours to mend: on grpcio what is wrong is sent, and only that others are answered is checked.
    `beyond_core` marks what is right and the C core does not take.
    """

    section: str
    what: str
    sent: bytes
    allowed: frozenset[str] = ANSWERED
    stream: int = 1
    first: bytes = b""
    beyond_core: bool = False

    def __str__(self) -> str:
        return f"{self.section} {self.what}"

    def check(self, daemon: Daemon, transport: str) -> None:
        """Send it; fail unless what may be is."""
        is_right = bool(self.allowed & ANSWERED) and not self.beyond_core
        with peer(daemon.address) as client:
            if self.first:
                client.send(self.first)
                assert client.outcome() in ANSWERED
            client.send(self.sent)
            assert (transport == "grpcio" and not is_right) or (outcome := client.outcome(self.stream)) in self.allowed, outcome
