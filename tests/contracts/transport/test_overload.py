"""Far more than can be answered: clients are told to keep what there is no time for, and may send as much as ever once there is."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.contracts.transport.frames import HEADERS, SETTINGS, Frame, Peer, call, frame, peer
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


def acknowledge(client: Peer, came: Frame) -> None:
    """Confirm settings, as every client does."""
    if came.kind == SETTINGS and not came.flags & 1:
        client.send(frame(SETTINGS, b"", 1))


def fill(daemon: Daemon, seen: list[int], fields: list[int]) -> None:
    """Send all that a connection may, in one piece, until less is allowed."""
    with peer(daemon.address) as client:
        client.send(b"".join(call(2 * number + 1) for number in range(STREAMS)))
        answered = 0
        for came in client.frames(SECONDS):
            acknowledge(client, came)
            seen.extend(allowed(came))
            answered += came.kind == HEADERS and came.flags & 1
            if answered == STREAMS:
                break
        fields.append(sum(said.get("grpc-status") == "0" for said in client.fields.values()))


def test_clients_are_allowed_less_while_requests_wait_to_be_read_and_all_are_answered(served: Daemon) -> None:
    seen: list[int] = []
    answered: list[int] = []
    end = time.monotonic() + SECONDS
    while not any(limit < STREAMS for limit in seen) and time.monotonic() < end:
        clients = [threading.Thread(target=fill, args=(served, seen, answered)) for _ in range(CONNECTIONS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert min(seen) < STREAMS
    assert set(answered) == {STREAMS}


def test_a_client_is_allowed_all_again_once_nothing_waits(served: Daemon) -> None:
    with contextlib.ExitStack() as others, peer(served.address) as client:
        crowd = [others.enter_context(peer(served.address)) for _ in range(CONNECTIONS)]
        least, last, number = STREAMS, STREAMS, 0
        end = time.monotonic() + SECONDS
        while (least == STREAMS or last < STREAMS) and time.monotonic() < end:
            if least == STREAMS:
                for one in crowd:
                    first = 2 * STREAMS * (number // STREAMS)
                    one.send(b"".join(call(first + 2 * place + 1) for place in range(STREAMS)))
                client.send(b"".join(call(2 * (number + place) + 1) for place in range(STREAMS)))
                number += STREAMS
            else:
                client.send(call(2 * number + 1))
                number += 1
            for came in client.frames(0.05):
                acknowledge(client, came)
                for last in allowed(came):
                    least = min(least, last)
    assert least < STREAMS
    assert last == STREAMS
