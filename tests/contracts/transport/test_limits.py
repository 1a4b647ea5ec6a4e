"""What a connection and a message may be: too much has a status, and connections end without a failed request."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, RemoteSettingsChanged
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from registry.registry import Registry
from tests.contracts.transport.calls import raw_request
from tests.contracts.transport.frames import ACK, GOAWAY, MESSAGE, PING, PRIORITY, call, data, frame, head, peer, settings, window
from tests.contracts.transport.wire import Wire, wire
from tests.daemons import Daemon, daemon, wait_until
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
READY = grpc.ChannelConnectivity.READY


@pytest.fixture(scope="module")
def limited(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """A daemon of small limits."""
    limits = {"max-message-bytes": "10000", "max-metadata-bytes": "4096", "max-streams": "70", "min-ping-interval": "60"}
    with daemon(tmp_path_factory.mktemp(f"limited-{transport}"), {"registry": str(filled[1]), **limits}) as running:
        running.wait_for("scaled")
        yield running


@pytest.fixture(scope="module")
def impatient(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """A daemon whose connections are soon too old, or idle for too long."""
    limits = {"max-connection-age": "1", "max-connection-idle": "2"}
    with daemon(tmp_path_factory.mktemp(f"impatient-{transport}"), {"registry": str(filled[1]), **limits}) as running:
        running.wait_for("scaled")
        yield running


def test_metadata_too_large_have_a_status_and_the_connection_goes_on(limited: Daemon) -> None:
    request = raw_request("scaled", {"numeric": ROW})
    for size in (5_000, 100_000):
        with pytest.raises(grpc.RpcError) as caught:
            limited.stub.ModelInfer(request, timeout=10, metadata=(("x-large", "x" * size),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "metadata" in str(caught.value.details()).lower()
    assert limited.stub.ModelInfer(request, timeout=10, metadata=(("x-small", "x" * 2000),)).model_name == "scaled"


def test_a_message_too_large_has_a_status_and_the_connection_goes_on(limited: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        limited.stub.ModelInfer(raw_request("scaled", {"numeric": np.zeros((2000, 3), np.float32)}), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert limited.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=10).model_name == "scaled"


def test_calls_above_the_limit_of_a_connection_wait_at_the_client_and_none_fails(limited: Daemon) -> None:
    request = raw_request("scaled", {"numeric": ROW})
    with grpc.insecure_channel(limited.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString, bytes)
        call(request, timeout=10)
        pending = [call.future(request, timeout=20) for _ in range(1500)]
        assert [one.code() for one in pending if one.exception() is not None] == []


def test_connections_that_are_too_old_end_without_a_failed_request(impatient: Daemon) -> None:
    connected = 0

    def changed(state: grpc.ChannelConnectivity) -> None:
        nonlocal connected
        connected += state is READY

    request = raw_request("scaled", {"numeric": ROW}).SerializeToString()
    with grpc.insecure_channel(impatient.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        channel.subscribe(changed)
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, pb.ModelInferResponse.FromString)
        # A channel does not tell of every connection: one that is there again at once may go unnoticed.
        end = time.monotonic() + 20
        answers = 0
        while connected < 3 and time.monotonic() < end:
            pending = [call.future(request, timeout=10) for _ in range(8)]
            answers += sum(one.result().model_version == "1" for one in pending)
    assert answers > 100
    assert connected >= 3


def test_a_connection_without_calls_is_closed(impatient: Daemon) -> None:
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(impatient.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        channel.subscribe(states.append)
        grpc.channel_ready_future(channel).result(10)
        wait_until(lambda: grpc.ChannelConnectivity.IDLE in states[states.index(READY) :], "it stays open", 6)


@pytest.fixture
def connection(limited: Daemon) -> Iterator[Wire]:
    with wire(limited.address) as connection:
        yield connection


def test_the_number_of_calls_at_once_is_announced(connection: Wire) -> None:
    def announced() -> list[int]:
        connection.receive(0.01)
        changes = [event.changed_settings for event in connection.of(RemoteSettingsChanged)]
        return [
            changed[SettingCodes.MAX_CONCURRENT_STREAMS].new_value for changed in changes if SettingCodes.MAX_CONCURRENT_STREAMS in changed
        ]

    wait_until(lambda: announced() == [70], "no limit is announced", 5)


def test_a_client_that_pings_without_end_is_sent_away(connection: Wire) -> None:
    def sent_away() -> bool:
        connection.receive(0.01)
        return any(event.error_code == ErrorCodes.ENHANCE_YOUR_CALM for event in connection.of(ConnectionTerminated))

    for number in range(20):
        with contextlib.suppress(ProtocolError, OSError):  # it has been sent away already
            connection.h2.ping(number.to_bytes(8))
            connection.flush()
    wait_until(sent_away, "it may go on", 5)


BETWEEN = {
    "nothing": b"",
    "windows": window(1),
    "settings": settings(),
    "priorities": frame(PRIORITY, b"\0\0\0\0\x10", stream=3),
    "acknowledgements": frame(PING, b"no pings", ACK),
    "frames of no kind": frame(0xFA),
    "empty data": data(b"", 0),
    "data": data(b"\0\0", 0),
    "windows of a call": window(1, 1),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_a_client_that_waits_for_each_answer_to_its_pings_is_sent_away_whatever_else_it_says(
    limited: Daemon, transport: str, between: str
) -> None:
    if (transport, between) == ("grpcio", "data"):
        pytest.skip("gRPC's C core lets a client ping that it has granted more window as well")
    with peer(limited.address) as client:
        client.send(head() + data(MESSAGE[:9], 0))
        for number in range(20):
            client.send(frame(PING, number.to_bytes(8)) + BETWEEN[between])
            for kind, _, _, payload in client.until(PING, GOAWAY):
                if kind == GOAWAY:
                    assert int.from_bytes(payload[4:8]) == ErrorCodes.ENHANCE_YOUR_CALM
                    assert number < 10
                    return
    raise AssertionError("it may go on")


def test_a_client_may_ping_whenever_it_has_got_something(limited: Daemon) -> None:
    with peer(limited.address) as client:
        for number in range(20):
            client.send(call(2 * number + 1))
            assert client.outcome(2 * number + 1) == "status 0"
            client.send(frame(PING, number.to_bytes(8)))
            assert client.until(PING, GOAWAY)[-1].kind == PING
