"""The client's end of one HTTP/2 connection that sends the same gRPC request again and again, made to cost little per request.

The frames of a request are made once; for each one sent only its stream number and its grpc-timeout are written into a copy, many copies
at a time. The server is told to keep no header table, so that every block of headers can be read alone. It knows frames, streams and
windows, and nothing of schedules and latencies: those are `open_loop`'s. Not thread-safe.
"""

import socket
import struct
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from numpy.typing import NDArray

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER = struct.Struct(">HBBBL")
SETTING = struct.Struct(">HL")
LARGEST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = 65_535
CONNECT_SECONDS = 5.0
REFILL = 1 << 24
"""Bytes of answers after which the server's window is filled again; so little of 2 GiB that it is never near its end."""

UNKNOWN, INTERNAL = 2, 13
RESET_STATUS = {0x8: 1, 0xB: 8, 0xC: 7}
"""What the gRPC protocol makes of the error code of a reset stream: CANCELLED, RESOURCE_EXHAUSTED, PERMISSION_DENIED, else INTERNAL"""
REFUSED_STREAM = -7
"""Stands for the status of a request that the server has not looked at and that its client may send again, as all clients of gRPC do"""

Answer: TypeAlias = tuple[int, int, bytes]
"""Number of the request on its connection (0, 1, 2 ...), gRPC status, gRPC-framed message"""


class UnsupportedError(Exception):
    """The peer does what HTTP/2 allows and no gRPC server does: padding, header blocks in pieces, windows smaller than one request."""


@dataclass(frozen=True)
class Template:
    """The frames of one request, uint8 [n], and where its two stream numbers and the eight digits of its timeout stand."""

    frames: NDArray[np.uint8]
    streams: tuple[int, int]
    timeout: int
    body: int
    """Bytes that count against the server's windows"""

    def copies(self, first: int, timeouts: NDArray[np.float64]) -> bytes:
        """Requests number `first` and following, one for each of `timeouts` [n] in seconds, at most 99 of them."""
        block = np.tile(self.frames, (len(timeouts), 1))
        numbers = 2 * (first + np.arange(len(timeouts))) + 1
        for place in self.streams:
            block[:, place : place + 4] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
        micros = (timeouts * 1e6).astype(np.int64)[:, None]
        block[:, self.timeout : self.timeout + 8] = micros // 10 ** np.arange(7, -1, -1) % 10 + ord("0")
        return block.tobytes()


def template(path: str, message: bytes, authority: str = "localhost") -> Template:
    """A unary gRPC call of `path` with the serialised `message`."""
    digits = "00000001u"
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    headers += [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", digits)]
    # As they are, so that the timeout can be written over, and marked so that they enter no table and mean the same every time.
    block = Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in headers], huffman=False)
    body = struct.pack(">BL", 0, len(message)) + message
    frames = frame(HEADERS, END_HEADERS, 0, block) + frame(DATA, END_STREAM, 0, body)
    second = FRAME_HEADER.size + len(block)
    return Template(np.frombuffer(frames, np.uint8), (5, second + 5), frames.index(digits.encode()), len(body))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return FRAME_HEADER.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


@dataclass
class StatusReader:
    """Reads grpc-status out of header blocks; blocks seen before are not decoded again."""

    plain: bytes = b"\x0bgrpc-status\x01"
    known: dict[bytes, int] = field(default_factory=dict)

    def status(self, block: bytes) -> int:
        """The gRPC status of a last block of headers."""
        place = block.find(self.plain)
        if place >= 0 and 0x30 <= block[place + len(self.plain)] <= 0x39:
            return block[place + len(self.plain)] - 0x30
        if block not in self.known:
            if len(self.known) > 1024:  # texts that are never the same twice must not fill the memory
                self.known.clear()
            headers = dict(Decoder().decode(block, raw=True))
            self.known[block] = int(headers.get(b"grpc-status", UNKNOWN))
        return self.known[block]


class Connection:
    """One connection. `closed` says that the server ended it: nothing more comes and nothing can be sent."""

    def __init__(self, address: str, request: Template) -> None:
        """Connect to HOST:PORT and agree on settings.

        Raises:
            OSError: if nobody listens, or who does is silent.
            UnsupportedError: if a request is larger than the server's first windows.
        """
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._reader = StatusReader()
        self._limits = {MAX_CONCURRENT_STREAMS: LARGEST_WINDOW, INITIAL_WINDOW_SIZE: FIRST_WINDOW, MAX_FRAME_SIZE: 1 << 14}
        self._window = FIRST_WINDOW
        self._sent = self._taken = 0
        self._waiting: set[int] = set()
        self._out, self._rest = bytearray(), b""
        self._bodies: dict[int, bytes] = {}
        self.closed = self._agreed = False
        self._handshake()

    def _handshake(self) -> None:
        settings = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: LARGEST_WINDOW}
        payload = b"".join(SETTING.pack(key, value) for key, value in settings.items())
        grant = (LARGEST_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self._out += PREFACE + frame(SETTINGS, 0, 0, payload) + frame(WINDOW_UPDATE, 0, 0, grant)
        self.flush()
        while not self._agreed and not self.closed:
            self.receive()
            self.flush()
        if self.closed:
            raise ConnectionError("the server did not agree on settings")
        self._socket.settimeout(0)
        if self._request.body > min(self._limits[INITIAL_WINDOW_SIZE], self._limits[MAX_FRAME_SIZE]):
            raise UnsupportedError(f"a request of {self._request.body} bytes does not fit the first window of {self._limits}")

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    @property
    def sent(self) -> int:
        """Requests sent so far: the number of the next."""
        return self._sent

    @property
    def blocked(self) -> bool:
        """Whether bytes wait because the server does not read: ask select when to `flush`."""
        return bool(self._out)

    @property
    def room(self) -> int:
        """How many requests may be sent now: what the stream limit and the window allow, none while bytes wait."""
        if self.closed or self._out:
            return 0
        return max(0, min(self._limits[MAX_CONCURRENT_STREAMS] - len(self._waiting), self._window // self._request.body))

    def send(self, timeouts: NDArray[np.float64]) -> None:
        """Send one request for each timeout, in seconds; no more than there is `room` for."""
        self._out += self._request.copies(self._sent, timeouts)
        self._waiting.update(range(self._sent, self._sent + len(timeouts)))
        self._sent += len(timeouts)
        self._window -= len(timeouts) * self._request.body
        self.flush()

    def flush(self) -> None:
        """Hand to the kernel what it takes."""
        try:
            while self._out and not self.closed:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def receive(self) -> list[Answer]:
        """What has come since the last call; what the protocol asks of us is answered."""
        try:
            chunk = self._socket.recv(1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        self.closed = self.closed or not chunk
        answers: list[Answer] = []
        data, place = self._rest + chunk, 0
        while len(data) - place >= FRAME_HEADER.size:
            high, low, kind, flags, stream = FRAME_HEADER.unpack_from(data, place)
            start = place + FRAME_HEADER.size
            end = start + (high << 8 | low)
            if end > len(data):
                break
            self._take(kind, flags, stream, data[start:end], answers)
            place = end
        self._rest = data[place:]
        return answers

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, answers: list[Answer]) -> None:
        if kind == DATA:
            _refuse(flags & PADDED, "a padded DATA frame")
            self._granted(len(payload))
            self._bodies[stream] = self._bodies[stream] + payload if stream in self._bodies else payload
        elif kind == HEADERS:
            _refuse(flags & (PADDED | PRIORITY) or not flags & END_HEADERS, "a padded, weighted or divided HEADERS frame")
        else:
            self._control(kind, flags, stream, payload)
        if kind == RST_STREAM or (kind in {DATA, HEADERS} and flags & END_STREAM):
            number, body = stream >> 1, self._bodies.pop(stream, b"")
            if number in self._waiting:  # a stream that has its answer may still be reset
                self._waiting.remove(number)
                answers.append((number, self._status(kind, payload), body))

    def _status(self, kind: int, payload: bytes) -> int:
        if kind == HEADERS:
            return self._reader.status(payload)
        if kind == DATA:
            return UNKNOWN
        code = int.from_bytes(payload, "big")
        return REFUSED_STREAM if code == 0x7 else RESET_STATUS.get(code, INTERNAL)

    def _granted(self, size: int) -> None:
        """Give back to the server's window what was taken out of it. The windows of streams are larger than any answer."""
        self._taken += size
        if self._taken > REFILL:
            self._out += frame(WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4, "big"))
            self._taken = 0

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload, "big")
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            self.closed = True
        elif kind == SETTINGS and not flags & ACK:
            self._limits |= dict(SETTING.iter_unpack(payload))
            self._out += frame(SETTINGS, ACK, 0, b"")
        elif kind == SETTINGS:
            self._agreed = True

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _refuse(condition: int, what: str) -> None:
    if condition:
        raise UnsupportedError(f"the server sent {what}")
