"""Clients that use HTTP/2 against the server: it stays up, the others are answered, and nothing of it is left."""

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.events import ConnectionTerminated
from h2.settings import SettingCodes

from registry.location import create_registry
from tests import models
from tests.contracts.transport.abuse import harmless, infer, scaled
from tests.contracts.transport.calls import in_flight, raw_floats, raw_request
from tests.contracts.transport.frames import frame
from tests.contracts.transport.wire import MODEL_INFER, Wire, wire
from tests.daemons import Daemon, daemon, wait_until

ROW = np.array([[1, 2, 3]], np.float32)
REQUEST = raw_request("scaled", {"numeric": ROW}).SerializeToString()
STALLED = {SettingCodes.INITIAL_WINDOW_SIZE: 0}
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """A daemon of its own: others must not pay for what is done to it."""
    with scaled(tmp_path_factory.mktemp(f"abused-{transport}"), {}) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(abused: Daemon) -> Iterator[None]:
    """After every abuse: see `harmless`."""
    with harmless(abused):
        yield


def test_rapid_reset(abused: Daemon) -> None:
    for _ in range(5):
        with wire(abused.address) as attacker:
            for number in range(1000):
                stream = attacker.open()
                if number % 2:
                    attacker.message(stream, REQUEST)
                attacker.h2.reset_stream(stream)
            try:
                attacker.flush()
                while attacker.receive(0.2) and not attacker.of(ConnectionTerminated):
                    pass
            except OSError:
                continue  # sent away before the end, which is as good


def test_callers_that_give_up_all_at_once_keep_their_connection(abused: Daemon) -> None:
    with wire(abused.address) as client:
        client.receive(1)
        for _ in range(100):
            stream = client.open()
            client.message(stream, REQUEST)
            client.h2.reset_stream(stream)
        last = client.open()
        client.message(last, REQUEST)
        client.flush()
        assert client.status(last) == "0"
        assert not client.of(ConnectionTerminated)


def test_answers_that_are_never_read(abused: Daemon) -> None:
    with wire(abused.address, STALLED) as attacker:
        for _ in range(50):
            attacker.message(attacker.open(), REQUEST)
        attacker.flush()
        attacker.receive(1)
        wait_until(lambda: in_flight(abused) == 0, "what is not read counts as in flight, and keeps others out", 5)
        infer(abused)


def test_large_answers_that_are_never_read(abused: Daemon) -> None:
    large = raw_request("scaled", {"numeric": np.ones((5000, 3), np.float32)}).SerializeToString()
    with wire(abused.address, STALLED) as attacker:
        attacker.receive(1)
        attacker.message(attacker.open(), large)
        attacker.flush()
        infer(abused)
        wait_until(lambda: in_flight(abused) == 0, "what is not read counts as in flight, and keeps others out", 5)


def test_messages_that_never_end(abused: Daemon) -> None:
    with wire(abused.address) as attacker:
        for path in (MODEL_INFER, "/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/ServerLive"):
            for _ in range(20):
                stream = attacker.open(path)
                attacker.h2.send_data(stream, b"\0\0\0\1\0 half a message")
        attacker.flush()
        attacker.receive(0.5)
        with grpc.insecure_channel(abused.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=2).status == health_pb2.HealthCheckResponse.SERVING
        infer(abused)


def test_headers_that_never_end(abused: Daemon) -> None:
    with wire(abused.address) as attacker:
        block = attacker.h2.encoder.encode([(b":method", b"POST"), (b":path", MODEL_INFER.encode())])
        attacker.socket.sendall(frame(1, block, 0, 1))
        try:
            for _ in range(20_000):
                attacker.socket.sendall(frame(9, b"\x00\x01x\x7f" + b"\x80" * 4 + b"\x01" + b"y" * 100, 0, 1))
        except OSError:
            return  # sent away
        infer(abused)


def test_pings_without_end(abused: Daemon) -> None:
    with wire(abused.address) as attacker:
        try:
            for _ in range(20_000):
                attacker.socket.sendall(frame(6, b"ping-now", 0, 0))
            while attacker.receive(5) and not attacker.of(ConnectionTerminated):
                pass
        except OSError:
            return  # sent away before the end, which is as good
        assert attacker.of(ConnectionTerminated)


def test_frames_that_are_none(abused: Daemon) -> None:
    for data in (b"\0" * 1000, b"\xff" * 1000, frame(0, b"x", 0, 99), frame(8, b"\0\0\0\0", 0, 0), frame(4, b"\0\4" + b"\xff" * 4, 0, 0)):
        with wire(abused.address) as attacker:
            attacker.socket.sendall(data)
            attacker.receive(0.5)
    with socket.create_connection(("127.0.0.1", int(abused.address.rpartition(":")[2]))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: daemon\r\n\r\n")
        plain.settimeout(5)
        plain.recv(1000)


def test_connections_closed_in_the_middle_of_a_frame(abused: Daemon) -> None:
    for cut in (1, 5, 9, 20, len(REQUEST) // 2):
        with wire(abused.address) as attacker:
            attacker.message(attacker.open(), REQUEST)
            attacker.socket.sendall(attacker.h2.data_to_send()[:-cut])
            attacker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_idle_connections_by_the_hundred(abused: Daemon) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    idle = [Wire(abused.address) for _ in range(min(1000, soft // 2))]
    try:
        infer(abused)
    finally:
        for one in idle:
            one.socket.close()


def test_no_message_and_more_than_one_have_their_status(abused: Daemon) -> None:
    with wire(abused.address) as client:
        silent = client.open()
        client.h2.end_stream(silent)
        talkative = client.open()
        client.message(talkative, REQUEST, end=False)
        client.message(talkative, REQUEST)
        client.flush()
        assert client.status(silent) == str(grpc.StatusCode.UNIMPLEMENTED.value[0])
        assert client.status(talkative) in {"0", str(grpc.StatusCode.UNIMPLEMENTED.value[0])}


CLIENT = """
import sys, threading, grpc
call = grpc.insecure_channel(sys.argv[1]).unary_unary(sys.argv[2])
request = bytes.fromhex(sys.argv[3])
def send(_=None):
    call.future(request).add_done_callback(send)
for _ in range(50):
    send()
print("sending", flush=True)
threading.Event().wait()
"""


def test_clients_killed_with_requests_in_flight(abused: Daemon) -> None:
    arguments = [sys.executable, "-c", CLIENT, abused.address, MODEL_INFER, REQUEST.hex()]
    for _ in range(2):
        clients = [subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(3)]
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline()
        infer(abused)
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.wait()


def test_watcher_that_reads_nothing_holds_no_promotion_up(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("scaled")
        with wire(running.address, STALLED) as attacker:
            for _ in range(50):
                attacker.message(
                    attacker.open("/grpc.health.v1.Health/Watch"), health_pb2.HealthCheckRequest(service="scaled").SerializeToString()
                )
            attacker.flush()
            attacker.receive(0.5)
            registry.promote("scaled", 2, to="production", actor="test", reason="better")
            running.wait_for("scaled", "2")
            wait_until(
                lambda: running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5).model_version == "2", "not promoted"
            )
            assert (raw_floats(running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 3).all()
            begun = time.monotonic()
            running.program.process.send_signal(signal.SIGTERM)
            assert running.program.process.wait(10) == 0
            assert time.monotonic() - begun < 6
