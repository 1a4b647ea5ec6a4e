"""What a person who starts the daemon wrongly is told: one line, exit code 2."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from registry.location import create_registry
from server.settings import Settings, read_settings
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tests.daemons import daemon, wait_until
from tidegate_protos import inference_pb2 as pb

FREE = ["--grpc-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]


def refused(*flags: str, cwd: Path) -> str:
    """What `python -m server` says on stderr when it refuses to start."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "server", *flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
        env={"PYTHONPATH": str(root)},
    )
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    return run.stderr


@pytest.fixture
def registry(tmp_path: Path) -> str:
    create_registry(str(tmp_path / "registry"))
    return str(tmp_path / "registry")


def test_absent_registry_is_named(tmp_path: Path) -> None:
    assert "no registry at nowhere" in refused("--registry", "nowhere", *FREE, cwd=tmp_path)


def test_folder_that_is_no_registry_is_named(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mum.txt").touch()
    assert "letters is not a registry" in refused("--registry", "letters", *FREE, cwd=tmp_path)


@pytest.mark.parametrize("flag", ["--grpc-address", "--metrics-address"])
def test_taken_port_is_named_with_the_flag_that_chooses_another(flag: str, registry: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused("--registry", registry, *FREE, flag, address, cwd=tmp_path)
    assert address in message
    assert flag in message


def test_address_open_to_others_is_refused(registry: str, tmp_path: Path) -> None:
    assert "--insecure" in refused("--registry", registry, "--grpc-address", "0.0.0.0:0", cwd=tmp_path)


def test_unknown_flag_is_one_line(tmp_path: Path) -> None:
    assert "--bogus" in refused("--bogus", cwd=tmp_path)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-batch-rows", "0"),
        ("--grpc-address", "8001"),
        ("--max-queue-delay", "soon"),
        ("--drain-delay", "inf"),
        ("--drain-delay", "nan"),
        ("--max-connection-age", "-1"),
        ("--replicas", "0"),
        ("--prediction-log-share", "0"),
        ("--tracing", "nowhere"),
    ],
)
def test_wrong_setting_is_named(flag: str, value: str, registry: str, tmp_path: Path) -> None:
    assert flag in refused("--registry", registry, flag, value, cwd=tmp_path)


def test_misspelt_toml_is_named(registry: str, tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("max_batch_rows = \n")
    assert "tidegate.toml" in refused("--registry", registry, *FREE, cwd=tmp_path)


def test_config_replaces_tidegate_toml_and_is_under_the_flags(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('registry = "from-the-folder"')
    (tmp_path / "other.toml").write_text('registry = "from-config"\nmax_batch_rows = 7\n')
    settings = read_settings({"max_batch_rows": "8"}, tmp_path / "other.toml")
    assert (settings.registry, settings.max_batch_rows) == ("from-config", 8)
    assert "from-config" in refused("--config", "other.toml", *FREE, cwd=tmp_path)
    assert "from-the-folder" in refused(*FREE, cwd=tmp_path)


def test_config_that_is_not_there_or_does_not_parse_is_named(tmp_path: Path) -> None:
    assert "--config absent.toml" in refused("--config", "absent.toml", *FREE, cwd=tmp_path)
    (tmp_path / "other.toml").write_text("max_batch_rows = \n")
    assert "other.toml" in refused("--config", "other.toml", *FREE, cwd=tmp_path)


def test_help_groups_every_setting_and_teaches_by_example() -> None:
    run = subprocess.run([sys.executable, "-m", "server", "--help"], capture_output=True, text=True, timeout=30, check=True)
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} " in run.stdout, name
    examples = run.stdout.partition("examples:")[2]
    assert all(word in examples for word in ("--registry", "--model-dir", "--replicas"))
    assert "--replica " not in run.stdout


def test_columns_are_given_once_a_flag_or_by_commas_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings({"prediction_log_drop": ["a", "b,c"]}).prediction_log_drop == ("a", "b,c")
    monkeypatch.setenv("TIDEGATE_PREDICTION_LOG_DROP", "a,b")
    assert read_settings({}).prediction_log_drop == ("a", "b")


def test_model_dir_serves_one_folder_without_a_registry(tmp_path: Path) -> None:
    (tmp_path / "tripled").mkdir()
    (tmp_path / "tripled" / "model.onnx").write_bytes(models.scaled(3.0))
    with daemon(tmp_path, {"model-dir": str(tmp_path / "tripled")}) as running:
        row = np.array([[1, 2, 3]], np.float32)
        answer = running.stub.ModelInfer(raw_request("tripled", {"numeric": row}), timeout=5)
        np.testing.assert_array_equal(raw_floats(answer), row * 3)


def test_model_dir_without_a_model_is_named(tmp_path: Path) -> None:
    assert "model.onnx" in refused("--model-dir", str(tmp_path), *FREE, cwd=tmp_path)


def test_daemon_starts_without_training_libraries(registry: str) -> None:
    blocked = "sys.modules.update(dict.fromkeys(['sklearn', 'pandas', 'comet_ml', 'aif360', 'skl2onnx', 'onnx', 'fastapi']))"
    program = (
        f"import sys; {blocked}; from server import app, listeners; from server.settings import read_settings; "
        f"settings = read_settings(dict(registry={registry!r}, grpc_address='127.0.0.1:0')); "
        "d = app.build(settings, listeners.listen('127.0.0.1:0', '')); d.load(); d.listen(); d.stop(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parents[2])


TLS = ["--tls-cert", "c.pem", "--tls-key", "k.pem"]
JWT = ["--jwt-keys", "k.pem", "--jwt-issuer", "i", "--jwt-audience", "a"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (TLS[:2], "--tls-key"),
        (TLS[2:], "--tls-cert"),
        (["--tls-client-ca", "ca.pem", "--tokens", "t"], "--tls-cert"),
        ([*TLS, "--tls-client-ca", "ca.pem"], "--tokens"),
        (JWT[:4], "--jwt-audience"),
        (JWT[2:], "--jwt-keys"),
        ([*JWT[:3], "", *JWT[4:]], "--jwt-issuer"),
        (["--grpc-address", "0.0.0.0:0", *TLS], "0.0.0.0:0 is open"),
        (["--grpc-address", "0.0.0.0:0", "--tokens", "t"], "0.0.0.0:0 is open"),
        (["--grpc-address", "[::]:0"], "[::]:0 is open"),
        (["--grpc-address", "example.org:0", *JWT], "example.org:0 is open"),
        (["--metrics-address", "0.0.0.0:0"], "--metrics-open"),
        (["--metrics-address", "0.0.0.0:0", *TLS, *JWT], "--metrics-open"),
        (["--grpc-address", "0.0.0.0:0", "--metrics-open"], "0.0.0.0:0 is open"),
        (["--grpc-address", "0.0.0.0:0", *TLS, "--tokens", "absent"], "cannot read absent"),
        (["--tokens", "absent"], "cannot read absent"),
        ([*TLS], "cannot read c.pem"),
        ([*JWT], "cannot read k.pem"),
    ],
)
def test_what_would_be_open_or_cannot_protect_is_refused(flags: list[str], named: str, registry: str, tmp_path: Path) -> None:
    assert named in refused("--registry", registry, *FREE, *flags, cwd=tmp_path)


def test_protected_addresses_may_be_open_and_metrics_where_that_is_said() -> None:
    protected = {"tls_cert": "c.pem", "tls_key": "k.pem", "tokens": "t"}
    assert read_settings({"grpc_address": "0.0.0.0:1", **protected}).grpc_address == "0.0.0.0:1"
    assert read_settings({"metrics_address": "0.0.0.0:1", "metrics_open": True}).metrics_address == "0.0.0.0:1"
    assert read_settings({"grpc_address": "0.0.0.0:1", "metrics_address": "0.0.0.0:1", "insecure": True}).insecure


def test_log_that_nobody_reads_any_more_does_not_stop_the_daemon(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    arguments = [sys.executable, "-m", "server", "--registry", str(tmp_path / "registry"), *FREE]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            address = process.stdout.readline().split()[3].rstrip(",")
            process.stderr.close()
            registry.promote("scaled", 1, to="production", actor="test", reason="its line in the log reaches nobody")
            with grpc.insecure_channel(address) as channel:
                ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady", bytes, pb.ModelReadyResponse.FromString)
                request = pb.ModelReadyRequest(name="scaled").SerializeToString()

                def is_ready() -> bool:
                    try:
                        return bool(ready(request, timeout=5).ready)
                    except grpc.RpcError:
                        return False

                wait_until(is_ready, "the promotion was not followed", 10)
        finally:
            process.terminate()
        assert process.wait(10) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("replicas", ["1", "2"])
def test_daemon_that_is_started_without_standard_files_serves_and_says_nothing_to_anybody_else(replicas: str, registry: str) -> None:
    port = free_port()
    flags = ["--registry", registry, "--grpc-address", f"127.0.0.1:{port}", "--metrics-address", "127.0.0.1:0", "--replicas", replicas]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "server", *flags]
    with subprocess.Popen(closed) as process, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady", bytes, pb.ServerReadyResponse.FromString)
        try:
            assert ready(b"", timeout=30, wait_for_ready=True).ready
            assert {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)} == {Path("/dev/null")}
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_daemon_whose_announcement_nobody_reads_serves(registry: str) -> None:
    port = free_port()
    flags = ["--registry", registry, "--grpc-address", f"127.0.0.1:{port}", "--metrics-address", "127.0.0.1:0"]
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen([sys.executable, "-m", "server", *flags], stdout=writing) as process:
        os.close(writing)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive", bytes, pb.ServerLiveResponse.FromString)
                assert live(b"", timeout=30, wait_for_ready=True).live
                assert process.poll() is None
        finally:
            process.terminate()
        assert process.wait(20) == 0
