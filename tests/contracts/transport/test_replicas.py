"""Several processes on one port: one that dies is made good, all can be replaced without a failed request, and none outlives its parent."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest

from registry.location import create_registry
from server import listeners
from server.errors import SettingsError
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tests.daemons import Replicas, daemon, replicas, wait_until
from tests.exposition import scrape
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
REQUEST = raw_request("scaled", {"numeric": ROW}).SerializeToString()
PATH = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def registry(tmp_path: Path) -> str:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    return str(tmp_path / "registry")


class Caller(threading.Thread):
    """Sends one row over and over by a channel of its own, a new one for every `calls` requests; nothing is sent twice."""

    def __init__(self, address: str, calls: int) -> None:
        super().__init__()
        self.answered = 0
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self._address, self._calls = address, calls

    def run(self) -> None:
        while not self.stopped.is_set():
            with _channel(self._address) as channel:
                call = channel.unary_unary(PATH, bytes, bytes)
                for _ in range(self._calls):
                    if self.stopped.is_set():
                        break
                    self._send(call)
                    time.sleep(0.005)  # so that those who are to start get their turn on the processor

    def _send(self, call: Callable[..., bytes]) -> None:
        try:
            answer = pb.ModelInferResponse.FromString(call(REQUEST, timeout=20))
        except grpc.RpcError as error:
            self.failures.append(str(error))
            return
        if (raw_floats(answer) == ROW * 2).all():
            self.answered += 1
        else:
            self.failures.append(f"wrong answer: {raw_floats(answer)}")


def _channel(address: str) -> grpc.Channel:
    # Of its own: channels of one process to one address share a connection otherwise. Without a policy there is no retry.
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


@contextlib.contextmanager
def load(address: str, calls: list[int]) -> Iterator[list[Caller]]:
    """A caller for each number of `calls`, running during the block."""
    callers = [Caller(address, number) for number in calls]
    for caller in callers:
        caller.start()
    try:
        yield callers
    finally:
        for caller in callers:
            caller.stopped.set()
        for caller in callers:
            caller.join()


def wait_for_all(running: Replicas) -> None:
    """Return once the metrics of every replica say that it serves the model."""
    for url in running.metrics_urls:
        wait_until(lambda url=url: _serves(url), f"{url}: no model")  # type: ignore[misc]


def _serves(url: str) -> bool:
    try:
        return any(sample.name == "tidegate_model_info" for sample in scrape(url))
    except OSError:  # nobody answers until the replica is there again
        return False


def answered_by(url: str) -> float:
    """How many requests a replica has answered."""
    return sum(sample.value for sample in scrape(url) if sample.name == "tidegate_requests_total" and sample.labels["code"] == "OK")


def test_replicas_share_the_port_and_their_metrics_add_up(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 3, {"registry": registry}) as running:
        wait_for_all(running)
        with load(running.address, [1] * 4 + [10**9] * 4) as callers:
            wait_until(lambda: sum(caller.answered for caller in callers) > 300, "no answers")
        assert [caller.failures for caller in callers] == [[]] * len(callers)
        shares = [answered_by(url) for url in running.metrics_urls]
        assert sum(shares) == sum(caller.answered for caller in callers)
        assert all(shares)
        assert {json.loads(line).get("replica") for line in running.log().splitlines()} >= {0, 1, 2}


def test_replica_that_is_killed_is_started_again_and_the_others_go_on(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 2, {"registry": registry}) as running:
        wait_for_all(running)
        with load(running.address, [1] * 4) as callers:
            wait_until(lambda: sum(caller.answered for caller in callers) > 50, "no answers")
            before = running.pids()
            os.kill(before[0], signal.SIGKILL)
            killed = sum(caller.answered for caller in callers)
            wait_until(lambda: sum(caller.answered for caller in callers) > killed + 200, "the other replica does not go on")
            wait_until(lambda: len(set(running.pids()) - set(before)) == 1, "not started again")
            wait_for_all(running)
        # Each caller may have had one request on the replica that was killed, and one on a connection that waited there.
        assert all(len(caller.failures) <= 2 for caller in callers), [caller.failures for caller in callers]
        assert "replica ended, starting it again" in running.log()
        assert before[1] in running.pids()


def test_rolling_restart_fails_no_request(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 2, {"registry": registry, "max-connection-age": "1"}) as running:
        wait_for_all(running)
        before = running.pids()
        with load(running.address, [1] * 3 + [20] * 3 + [10**9] * 6) as callers:
            wait_until(lambda: all(caller.answered > 20 for caller in callers), "no answers")
            running.program.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "all replicas replaced" in running.log(), "not replaced", 90)
            answered = [caller.answered for caller in callers]
            wait_until(lambda: all(caller.answered > n for caller, n in zip(callers, answered, strict=True)), "no answers after it")
        assert [caller.failures for caller in callers] == [[]] * len(callers)
        assert len(running.pids()) == 2
        assert not set(before) & set(running.pids())
        assert all(_serves(url) for url in running.metrics_urls)


def test_replacement_that_cannot_load_what_is_in_production_leaves_the_old_replicas_serving(tmp_path: Path) -> None:
    folder = tmp_path / "tripled"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(models.scaled(3.0))
    with replicas(tmp_path, 2, {"model-dir": str(folder)}) as running:
        wait_for_all(running)
        before = running.pids()
        (folder / "model.onnx").write_bytes(b"no model")
        running.program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "did not become ready" in running.log(), "nothing was said")
        wait_until(lambda: running.pids() == before, "the new one stays")


def test_replicas_end_with_their_parent_even_if_it_is_killed(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 2, {"registry": registry}) as running:
        children = running.pids()
        assert len(children) == 2
        running.program.process.kill()
        running.program.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "replicas outlive their parent")


def test_sigterm_drains_all_replicas_and_exits_0(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 2, {"registry": registry, "drain-delay": "0.5"}) as running:
        children = running.pids()
        running.program.process.send_signal(signal.SIGTERM)
        assert running.program.process.wait(20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_second_sigterm_ends_replicas_at_once(tmp_path: Path, registry: str) -> None:
    with replicas(tmp_path, 2, {"registry": registry, "drain-delay": "60"}) as running:
        children = running.pids()
        for _ in range(2):
            running.program.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert running.program.process.wait(5) != 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_replicas_end_when_their_terminal_is_closed(tmp_path: Path, registry: str) -> None:
    command = [
        "-m",
        "server",
        "--replicas",
        "2",
        "--registry",
        registry,
        "--grpc-address",
        "127.0.0.1:0",
        "--metrics-address",
        "127.0.0.1:0",
    ]
    terminal = f"""
import os, pty, sys
pid, master = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, *{command!r}])
seen = b""
while b"replicas listening" not in seen:
    seen += os.read(master, 1000)
os.close(master)
print(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", terminal], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert run.stdout.split()[1] == "0"


def test_replicas_told_to_end_before_they_listen_end_in_order(tmp_path: Path, registry: str) -> None:
    command = [sys.executable, "-m", "server", "--replicas", "2", "--registry", registry, "--grpc-address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--metrics-address", "127.0.0.1:0"], stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: bool(children.read_text()), "nothing was started")
        pids = children.read_text().split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_a_daemon_that_drains_at_once(tmp_path: Path, registry: str, again: signal.Signals) -> None:
    with daemon(tmp_path, {"registry": registry, "drain-delay": "60"}) as running:
        running.program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert running.program.process.poll() is None
        running.program.process.send_signal(again)
        assert running.program.process.wait(5) == -again


def test_parent_loads_neither_grpc_nor_a_model_runtime() -> None:
    program = "import sys, server.__main__, server.replicas; print(sorted({'grpc', 'numpy', 'onnxruntime', 'pyarrow'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "[]\n"


def test_what_keeps_every_replica_from_starting_is_said_once_with_code_2(tmp_path: Path) -> None:
    assert "no registry at" in refused("--registry", str(tmp_path / "nowhere"), "--grpc-address", "127.0.0.1:0")


def test_port_of_another_is_refused_even_if_it_would_be_shared(tmp_path: Path, registry: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert address in refused("--registry", registry, "--grpc-address", address)
    with replicas(tmp_path, 2, {"registry": registry}) as running:
        assert running.address in refused("--registry", registry, "--grpc-address", running.address)


def test_port_is_refused_to_another_parent_before_any_replica_listens() -> None:
    hold, address = listeners.reserve("127.0.0.1:0")
    with hold, pytest.raises(SettingsError, match=address):
        listeners.reserve(address)
    again, same = listeners.reserve(address)
    again.close()
    assert same == address


def test_taken_metrics_port_of_any_replica_is_refused(registry: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused("--registry", registry, "--grpc-address", "127.0.0.1:0", "--metrics-address", f"127.0.0.1:{port - 1}")
    assert f"127.0.0.1:{port}" in said


def test_too_few_descriptors_for_a_replica_are_said_in_one_line(registry: str) -> None:
    limited = ("sh", "-c", 'ulimit -n 12; exec "$@"', "sh")
    assert "Too many open files" in refused("--registry", registry, "--grpc-address", "127.0.0.1:0", before=limited)


def refused(*flags: str, before: Sequence[str] = ()) -> str:
    """What two replicas with these flags say when they refuse to start: one line."""
    command = [*before, sys.executable, "-m", "server", "--replicas", "2", "--metrics-address", "127.0.0.1:0", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    return run.stderr
