"""A daemon on a Unix socket: like one on a port to whoever may open it, with no port, and with a file that comes and goes in order."""

import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clients.demo.programs import Program, running
from registry.registry import Registry
from tests.certificates import LOCAL, authority, issued
from tests.contracts.transport.calls import raw_floats, raw_request, reason
from tests.daemons import wait_until
from tidegate_client import Client
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import inference_pb2_grpc as pb_grpc

ROW = np.array([[1, 2, 3]], np.float32)
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def registry(filled: tuple[Registry, Path]) -> str:
    return str(filled[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tidegate.sock"


def flags(registry: str, address: Path | str) -> dict[str, str]:
    """Of a daemon at a path, or at an address."""
    where = address if isinstance(address, str) else f"unix:{address}"
    return {"registry": registry, "grpc-address": where, "metrics-address": "127.0.0.1:0"}


@pytest.fixture
def there(registry: str, path: Path) -> Iterator[Program]:
    with running("server", flags(registry, path), path.with_suffix(".log")) as program:
        wait_for_model(f"unix:{path}")
        yield program


def wait_for_model(address: str) -> None:
    """Return once the daemon there answers."""
    with Client(address) as client:
        wait_until(client.live, "nobody answers")
        wait_until(lambda: client.ready("scaled"), "the model is not ready")


def infer(address: str) -> pb.ModelInferResponse:
    """One answer, by a connection of its own."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        answer: pb.ModelInferResponse = stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)
        return answer


def refusal(registry: str, address: Path | str, *more: str) -> str:
    """The one line of a daemon that does not start."""
    arguments = [part for name, value in flags(registry, address).items() for part in (f"--{name}", value)]
    run = subprocess.run([sys.executable, "-m", "server", *arguments, *more], capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1), run.stderr
    return run.stderr


def test_inference_health_and_reflection_are_answered_at_the_path_in_both_spellings(there: Program, path: Path) -> None:
    assert there.announcement.startswith(f"daemon listening on unix:{path}, ")
    for address in (f"unix:{path}", f"unix://{path}"):
        np.testing.assert_array_equal(raw_floats(infer(address)), ROW * 2)
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="scaled"), timeout=5)
            assert health.status == SERVING
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
            (told,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=5)
            assert "inference.GRPCInferenceService" in {service.name for service in told.list_services_response.service}


def test_client_and_command_of_the_project_find_a_daemon_by_its_path(there: Program, path: Path) -> None:  # noqa: ARG001 -- it runs
    with Client(f"unix:{path}") as client:
        np.testing.assert_array_equal(client.predict("scaled", {"numeric": ROW}).outputs["scaled"], ROW * 2)
    rows = path.with_name("rows.csv")
    rows.write_text("a,b,c\n1,2,3\n")
    command = [sys.executable, "-m", "clients.cli.main", "predict", "scaled", "--rows", str(rows), "--address", f"unix:{path}", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "2.0" in run.stdout


def test_the_socket_is_for_its_user_alone_and_goes_with_the_daemon(there: Program, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {found.name for found in path.parent.iterdir()} == {path.name, "tidegate.log"}
    there.process.send_signal(signal.SIGTERM)
    assert there.process.wait(20) == 0
    assert not path.exists()


def test_a_socket_that_a_dead_daemon_left_is_replaced(there: Program, path: Path, registry: str) -> None:
    there.process.kill()
    there.process.wait()
    assert path.is_socket()
    with running("server", flags(registry, path), path.with_suffix(".second.log")):
        wait_for_model(f"unix:{path}")


def test_a_daemon_that_is_there_is_not_replaced_and_goes_on(there: Program, path: Path, registry: str) -> None:  # noqa: ARG001 -- it runs
    assert f"cannot listen on unix:{path}: it is taken" in refusal(registry, path)
    np.testing.assert_array_equal(raw_floats(infer(f"unix:{path}")), ROW * 2)


def test_a_daemon_too_busy_to_accept_is_there_all_the_same(path: Path, registry: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        assert "it is taken" in refusal(registry, path)


def test_a_daemon_that_ends_late_leaves_the_socket_of_its_successor_alone(there: Program, path: Path, registry: str) -> None:
    path.unlink()  # as nobody can reach the first one any more, the second takes the path
    with running("server", flags(registry, path), path.with_suffix(".second.log")):
        wait_for_model(f"unix:{path}")
        there.stop()
        np.testing.assert_array_equal(raw_floats(infer(f"unix:{path}")), ROW * 2)


def test_a_file_that_is_no_socket_is_never_removed(path: Path, registry: str) -> None:
    path.write_text("precious")
    assert "no socket" in refusal(registry, path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "said"),
    [("absent/tidegate.sock", "No such file or directory"), ("x" * 108, "at most 107 bytes")],
    ids=["no folder", "too long"],
)
def test_a_path_where_no_socket_can_be_is_named(name: str, said: str, tmp_path: Path, registry: str) -> None:
    line = refusal(registry, tmp_path / name)
    assert f"cannot listen on unix:{tmp_path / name}" in line
    assert said in line


def test_replicas_are_told_that_they_cannot_share_a_socket(path: Path, registry: str) -> None:
    assert "cannot share a Unix socket" in refusal(registry, path, "--replicas", "2")
    assert not path.exists()


@pytest.mark.parametrize("address", ["unix:", "unix://host/path", "unix:/path?query", "unix:/path,other"])
def test_what_names_no_path_is_refused(address: str, registry: str) -> None:
    assert "--grpc-address" in refusal(registry, address)


def test_a_path_is_read_as_clients_read_it(tmp_path: Path, registry: str) -> None:
    (tmp_path / "with space").mkdir()
    address = f"unix:{tmp_path}/with%20space/s"
    with running("server", flags(registry, address), tmp_path / "daemon.log"):
        wait_for_model(address)
        assert (tmp_path / "with space" / "s").is_socket()


def test_callers_without_credentials_are_one_to_the_rate_limit(path: Path, registry: str) -> None:
    limited = {"rate-limit": "0.001", "rate-burst": "1"}
    with running("server", {**flags(registry, path), **limited}, path.with_suffix(".log")):
        wait_for_model(f"unix:{path}")
        infer(f"unix:{path}")
        with pytest.raises(grpc.RpcError) as caught:
            infer(f"unix:{path}")
        assert reason(caught.value) == "RATE_LIMITED"


def test_refusals_in_the_log_name_the_socket_as_the_way_they_came(path: Path, registry: str) -> None:
    tokens = path.with_name("tokens.toml")
    tokens.write_text(f'[[principal]]\nname = "somebody"\nscopes = ["infer"]\nsha256 = "{"0" * 64}"\n')
    tokens.chmod(0o600)
    log = path.with_suffix(".log")
    with running("server", {**flags(registry, path), "tokens": str(tokens)}, log):
        with Client(f"unix:{path}") as client:
            wait_until(client.live, "nobody answers")
        with pytest.raises(grpc.RpcError) as caught:
            infer(f"unix:{path}")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        wait_until(lambda: '"peer": "unix:"' in log.read_text(), "no line tells of it", 5)


def test_tls_is_spoken_there_too_where_it_is_asked_for(path: Path, registry: str) -> None:
    ca = authority("CA")
    certificate, key = issued(ca, "daemon", LOCAL).write(path.parent, "daemon")
    tls = {"tls-cert": str(certificate), "tls-key": str(key)}
    credentials = grpc.ssl_channel_credentials(ca.pem)
    with (
        running("server", {**flags(registry, path), **tls}, path.with_suffix(".log")),
        Client(f"unix:{path}", credentials=credentials) as client,
    ):
        wait_until(client.live, "nobody answers")
        wait_until(lambda: client.ready("scaled"), "the model is not ready")
        np.testing.assert_array_equal(client.predict("scaled", {"numeric": ROW}).outputs["scaled"], ROW * 2)
