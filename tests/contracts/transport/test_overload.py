"""Far more than can be answered: clients are told to keep what there is no time for, and may send as much as ever once there is."""

import contextlib
import functools
import time
from collections.abc import Iterator

import pytest

from tests.contracts.transport.frames import ACK, HEADERS, SETTINGS, Frame, Peer, call, frame, peer
from tests.daemons import Daemon

CONNECTIONS = 48
STREAMS = 256
MAX_CONCURRENT_STREAMS = 3
SECONDS = 20.0


@pytest.fixture(autouse=True)
def _changes_what_it_allows(transport: str) -> None:
    if transport == "grpcio":
        pytest.skip("gRPC's C core allows the same at any time")


def allowed(came: Frame) -> Iterator[int]:
    """What a frame says of how many calls there may be at once."""
    if came.kind == SETTINGS:
        for place in range(0, len(came.payload), 6):
            if int.from_bytes(came.payload[place : place + 2]) == MAX_CONCURRENT_STREAMS:
                yield int.from_bytes(came.payload[place + 2 : place + 6])


class Client:
    """One of many, that sends all it may at once."""

    def __init__(self, connected: Peer) -> None:
        self.peer = connected
        self.allowed = [STREAMS]
        self._sent = 0

    def send(self, number: int) -> None:
        """So many calls more, in one piece."""
        self.peer.send(calls(self._sent, number))
        self._sent += number

    def is_answered(self, seconds: float) -> bool:
        """Whether every call has status OK within that time."""
        for came in self.peer.frames(seconds):
            if came.kind == SETTINGS and not came.flags & ACK:
                self.peer.send(frame(SETTINGS, b"", ACK))
            self.allowed += allowed(came)
            if came.kind == HEADERS and sum(said.get("grpc-status") == "0" for said in self.peer.fields.values()) == self._sent:
                return True
        return False


@functools.cache
def calls(first: int, number: int) -> bytes:
    """So many, the same for each connection."""
    return b"".join(call(2 * place + 1) for place in range(first, first + number))


@pytest.fixture
def crowded(served: Daemon) -> Iterator[list[Client]]:
    """Clients that have sent so much at once that some are allowed less, and have their answers."""
    end = time.monotonic() + SECONDS
    with contextlib.ExitStack() as connections:
        crowd = [Client(connections.enter_context(peer(served.address))) for _ in range(CONNECTIONS)]
        while all(min(client.allowed) == STREAMS for client in crowd) and time.monotonic() < end:
            for client in crowd:
                client.send(STREAMS)
            assert all(client.is_answered(SECONDS) for client in crowd)
        yield crowd


def test_clients_are_allowed_less_while_requests_wait_to_be_read_and_all_are_answered(crowded: list[Client]) -> None:
    assert min(min(client.allowed) for client in crowded) < STREAMS


def test_a_client_is_allowed_all_again_once_nothing_waits(crowded: list[Client]) -> None:
    client = min(crowded, key=lambda client: client.allowed[-1])
    end = time.monotonic() + SECONDS
    while client.allowed[-1] < STREAMS and time.monotonic() < end:
        client.send(1)
        assert client.is_answered(SECONDS)
        time.sleep(0.03)
    assert min(client.allowed) < STREAMS
    assert client.allowed[-1] == STREAMS
