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
from tests.contracts.transport.frames import GOAWAY, PING, frame, peer
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
        end = time.monotonic() + 4
        answers = 0
        while time.monotonic() < end:
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
        settings = [event.changed_settings for event in connection.of(RemoteSettingsChanged)]
        return [
            changed[SettingCodes.MAX_CONCURRENT_STREAMS].new_value for changed in settings if SettingCodes.MAX_CONCURRENT_STREAMS in changed
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


def test_a_client_that_waits_for_each_answer_to_its_pings_is_sent_away_too(limited: Daemon) -> None:
    with peer(limited.address) as client:
        for number in range(20):
            client.send(frame(PING, number.to_bytes(8)))
            if any(one.kind == GOAWAY for one in client.until(PING, GOAWAY)):
                return
    raise AssertionError("it may go on")
