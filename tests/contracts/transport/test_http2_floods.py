"""Floods, and peers that are slow on purpose: others are answered meanwhile, memory is bounded, and nothing is left afterwards."""

import contextlib
import gzip
import resource
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.contracts.transport.abuse import MEBIBYTE, Others, harmless, others, resident, scaled
from tests.contracts.transport.calls import raw_request
from tests.contracts.transport.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    FIELDS,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MESSAGE,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WATCH,
    WINDOW_UPDATE,
    Fields,
    Peer,
    block,
    call,
    data,
    frame,
    head,
    peer,
    reset,
    settings,
    watch,
    window,
)
from tests.daemons import Daemon
from tests.exposition import scrape

SECONDS = 1.0
MOST = 32 * MEBIBYTE
"""Bytes of requests that may be unanswered, and as many that may be on their way in, and unread answers"""
SLACK = 48 * MEBIBYTE
LARGEST = (1 << 31) - 1
STREAM: Fields = [(name, "/inference.GRPCInferenceService/ModelStreamInfer" if name == ":path" else value) for name, value in WATCH]
IDLE = 64 << 10
"""Bytes that an idle connection may take"""
Part = Callable[[int], bytes]


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """A daemon of its own, of small bounds."""
    flags = {"max-message-bytes": str(4 * MEBIBYTE), "max-queue-bytes": str(MOST)}
    with scaled(tmp_path_factory.mktemp(f"flooded-{transport}"), flags) as running:
        yield running


@pytest.fixture
def calling(flooded: Daemon, transport: str) -> Iterator[Others]:
    """Somebody who calls during the test, and is answered."""
    leaves = SLACK if transport == "native" else 5 * SLACK  # gRPC's C core keeps header blocks as long as they grow, glibc keeps the rest
    with harmless(flooded, leaves), others(flooded) as caller:
        yield caller


def pour(running: Daemon, opening: bytes, repeated: bytes) -> None:
    """Send, and read what comes, for a while or until the daemon hangs up; then anew."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with peer(running.address) as attacker, contextlib.suppress(OSError):
            attacker.socket.sendall(opening)
            attacker.socket.settimeout(0)
            place = 0
            while time.monotonic() < end:
                with contextlib.suppress(BlockingIOError):
                    place = (place + attacker.socket.send(repeated[place:])) % len(repeated)
                with contextlib.suppress(BlockingIOError):
                    if not attacker.socket.recv(1 << 20):
                        break
        time.sleep(0.01)


FIELD = b"\x00\x01x\x64" + b"y" * 100
FLOODS = {
    "pings": (b"", frame(PING, b"12345678") * 1000),
    "pings between other frames": (b"", (frame(PING, b"12345678") + window(1)) * 1000),
    "answers to no ping": (b"", frame(PING, b"12345678", ACK) * 1000),
    "settings": (b"", settings((INITIAL_WINDOW_SIZE, 65_535)) * 1000),
    "empty settings": (b"", frame(SETTINGS) * 1000),
    "windows of streams changed": (b"".join(watch(2 * n + 1) for n in range(200)), (settings((4, 65_535)) + settings((4, 65_536))) * 500),
    "windows grown by one": (watch(), (window(1) + window(1, 1)) * 1000),
    "priorities": (b"", b"".join(frame(PRIORITY, b"\0\0\0\0\x10", 0, 2 * n + 1) for n in range(1000))),
    "unknown frames": (b"", frame(0xFA, b"", 0, 1) * 1000),
    "large unknown frames": (b"", frame(0xFA, b"x" * 16_000, 0, 1) * 10),
    "empty data": (head(), data(b"", 0) * 1000),
    "data of a byte": (head(), data(b"\0", 0) * 5 + data(b"x", 0) * 1000),
    "empty continuations": (frame(HEADERS, block(), 0, 1), frame(CONTINUATION, b"", 0, 1) * 1000),
    "continuations": (frame(HEADERS, block(), 0, 1), frame(CONTINUATION, FIELD, 0, 1) * 1000),
    "large continuations": (frame(HEADERS, block(), 0, 1), frame(CONTINUATION, FIELD * 150, 0, 1) * 10),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_frames(flooded: Daemon, transport: str, calling: Others, flood: str) -> None:
    before = resident(flooded)
    pour(flooded, *FLOODS[flood])
    assert transport == "grpcio" or calling.most - before < SLACK


@pytest.mark.parametrize(
    "parts",
    [[head], [head, lambda stream: data(MESSAGE[:9], 0, stream)], [call], [watch], [lambda stream: head(stream, flags=END_STREAM)]],
    ids=["at once", "inside a message", "after a call", "after a watch", "after the end"],
)
def test_rapid_reset(flooded: Daemon, calling: Others, parts: list[Part]) -> None:
    before = resident(flooded)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with peer(flooded.address) as attacker, contextlib.suppress(OSError):
            for first in range(1, 20_000, 200):
                streams = range(first, first + 200, 2)
                attacker.socket.sendall(b"".join(b"".join(part(stream) for part in parts) + reset(stream) for stream in streams))
    assert calling.most - before < SLACK


def large(rows: int = 100_000) -> bytes:
    """A message whose answer is as large, 12 bytes a row."""
    request = raw_request("scaled", {"numeric": np.ones((rows, 3), np.float32)}).SerializeToString()
    return b"\0" + len(request).to_bytes(4) + request


class Sender(Peer):
    """Sends messages of any size, within the windows the daemon gives."""

    def __init__(self, address: str, first: bytes = settings()) -> None:
        super().__init__(address, PREFACE + first)
        self._granted = {0: 65_535}
        self._first = 65_535

    def upload(self, stream: int, message: bytes) -> None:
        """Send it without an end, as far as the daemon takes it."""
        self._granted.setdefault(stream, self._first)
        place = 0
        while place < len(message):
            size = min(self._granted[0], self._granted[stream], len(message) - place)
            if size > 0:
                parts = range(place, place + size, 16_384)
                self.send(b"".join(data(message[at : min(at + 16_384, place + size)], 0, stream) for at in parts))
                place += size
                for where in (0, stream):
                    self._granted[where] -= size
            elif not self._more(stream):
                return

    def _more(self, stream: int) -> bool:
        """Wait until more may be sent; False if the daemon ends the call or grants nothing."""
        for kind, flags, where, payload in self.frames(1):
            if kind == SETTINGS and not flags:
                pairs = {int.from_bytes(payload[at : at + 2]): int.from_bytes(payload[at + 2 : at + 6]) for at in range(0, len(payload), 6)}
                grown = pairs.get(INITIAL_WINDOW_SIZE, self._first) - self._first
                self._first += grown
                self._granted |= {one: had + grown for one, had in self._granted.items() if one}
                self.send(frame(SETTINGS, b"", ACK))
            elif kind == WINDOW_UPDATE:
                self._granted[where] = self._granted.get(where, self._first) + int.from_bytes(payload)
            elif where == stream and kind in {HEADERS, RST_STREAM}:
                return False
            if min(self._granted[0], self._granted[stream]) > 0:
                return True
        return False


@pytest.fixture
def bounded(transport: str, flooded: Daemon) -> Iterator[Daemon]:
    """Whatever a peer does during the test, others are answered, and the daemon takes no more memory for it than it may."""
    if transport == "grpcio":
        pytest.skip("gRPC's C core keeps what is on its way in and out, and has no bound for it that a server could set")
    before = resident(flooded)
    with harmless(flooded, leaves=MOST + SLACK), others(flooded) as caller:  # the allocator keeps some of it, and uses it again
        yield flooded
    assert caller.most - before < MOST + SLACK, (caller.most - before) >> 20


def test_answers_that_are_never_read(bounded: Daemon) -> None:
    attacker = Sender(bounded.address, settings((INITIAL_WINDOW_SIZE, 0)))
    with contextlib.closing(attacker.socket):
        for stream in range(1, 241, 2):
            attacker.send(head(stream))
            attacker.upload(stream, large())
            attacker.send(data(b"", END_STREAM, stream))
        time.sleep(0.5)


def counted(running: Daemon, code: str) -> float:
    """Requests that were answered with a code."""
    samples = scrape(running.metrics_url)
    return sum(one.value for one in samples if one.name == "tidegate_requests_total" and one.labels["code"] == code)


def packed(message: bytes) -> bytes:
    """A message that takes much less room on its way in than its answer on its way out."""
    small = gzip.compress(message[5:])
    return b"\1" + len(small).to_bytes(4) + small


@pytest.mark.parametrize("path", [FIELDS, STREAM], ids=["calls", "streams"])
def test_answers_that_find_no_room_are_counted_as_the_refusals_that_they_become(bounded: Daemon, path: Fields) -> None:
    streams, before = range(1, 81, 2), counted(bounded, "RESOURCE_EXHAUSTED")
    with peer(bounded.address, PREFACE + settings((INITIAL_WINDOW_SIZE, 0))) as attacker:
        message = packed(large())
        for stream in streams:
            attacker.send(head(stream, [*path, ("grpc-encoding", "gzip")]) + data(message, stream=stream))
            attacker.until(HEADERS)  # one by one, as they might find no room in the queue either
        attacker.send(window(LARGEST - 65_535) + b"".join(window(4 * MEBIBYTE, stream) for stream in streams))
        answers = dict.fromkeys(streams, b"")
        for kind, _, stream, payload in attacker.frames(2):
            if kind == DATA:
                answers[stream] += payload
        refused = [one for one in streams if attacker.fields[one]["grpc-status"] == "8" or b"[RESOURCE_EXHAUSTED]" in answers[one]]
        assert 0 < len(refused) < len(streams)
        assert counted(bounded, "RESOURCE_EXHAUSTED") - before == len(refused)
        assert {len(answer) > MEBIBYTE for one, answer in answers.items() if one not in refused} == {True}


def test_answers_of_streams_that_are_never_read(bounded: Daemon) -> None:
    attacker = Sender(bounded.address, settings((INITIAL_WINDOW_SIZE, 0)))
    with contextlib.closing(attacker.socket):
        for stream in range(1, 11, 2):
            attacker.send(head(stream, STREAM))
            attacker.upload(stream, large() * 20)
        time.sleep(0.5)


def test_small_answers_that_a_socket_does_not_take(bounded: Daemon) -> None:
    answer = large(4000)
    attackers = [Sender(bounded.address, settings((INITIAL_WINDOW_SIZE, LARGEST)) + window(LARGEST - 65_535)) for _ in range(3)]
    for attacker in attackers:
        attacker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        attacker.socket.settimeout(1)
        for stream in range(1, 401, 2):
            began = time.monotonic()
            attacker.send(head(stream))
            attacker.upload(stream, answer)
            attacker.send(data(b"", END_STREAM, stream))
            if time.monotonic() - began >= 1:  # a send gave up: nothing more is taken of this peer
                break
    time.sleep(0.5)
    for attacker in attackers:
        attacker.socket.close()


def test_messages_that_never_end(bounded: Daemon) -> None:
    attacker = Sender(bounded.address)
    with contextlib.closing(attacker.socket):
        for stream in range(1, 241, 2):
            attacker.send(head(stream))
            attacker.upload(stream, large()[:-1])
        time.sleep(0.5)


def test_messages_that_are_announced_and_come_byte_by_byte(bounded: Daemon) -> None:
    announced = b"\0" + (4 * MEBIBYTE).to_bytes(4)
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(peer(bounded.address)) for _ in range(10)]
        for attacker in attackers:
            attacker.send(b"".join(head(stream) + data(announced, 0, stream) for stream in range(1, 500, 2)))
        for attacker in attackers * 3:
            attacker.send(b"".join(data(b"x", 0, stream) for stream in range(1, 500, 2)))
            time.sleep(0.02)
        time.sleep(0.5)


def test_a_large_message_finds_room_beside_them(bounded: Daemon) -> None:
    greedy, modest = Sender(bounded.address), Sender(bounded.address)
    with contextlib.closing(greedy.socket), contextlib.closing(modest.socket):
        for stream in range(1, 101, 2):
            greedy.send(head(stream))
            greedy.upload(stream, large()[:-1])
        modest.send(head())
        modest.upload(1, large())
        modest.send(data(b"", END_STREAM))
        modest.send(window(2 * MEBIBYTE) + window(2 * MEBIBYTE, 1))
        assert modest.outcome() == "status 0"
        assert {said.get("grpc-status") for said in greedy.fields.values()} == {"8"}


def test_ten_thousand_idle_connections(flooded: Daemon, transport: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(10_000, hard - 500)  # the daemon has the same limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 400), hard))
    most = []
    try:
        for _ in range(2):
            with harmless(flooded, leaves=number * IDLE), others(flooded, 2) as caller, contextlib.ExitStack() as idle:
                before = resident(flooded)
                for _ in range(number):
                    idle.enter_context(peer(flooded.address))
                time.sleep(0.3)
                assert (caller.most - before) / number < IDLE
            most.append(caller.most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if transport == "native":  # what the allocator has kept it uses again; gRPC's C core takes more each time
        assert most[1] - most[0] < SLACK
