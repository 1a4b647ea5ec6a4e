"""`python -m control_plane`: starts, says where, ends in order; what it cannot do it says in one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from clients.demo.programs import start
from control_plane.__main__ import _listen
from control_plane.errors import SettingsError
from control_plane.settings import read_settings
from registry.location import create_registry


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "control_plane", *arguments], capture_output=True, text=True, timeout=30, check=False)


def refused(result: "subprocess.CompletedProcess[str]") -> str:
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    """Asyncio switches Nagle's algorithm off only for sockets that name their protocol; with it every small answer takes 40 ms."""
    with _listen("127.0.0.1:0") as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    create_registry(str(tmp_path / "registry"))
    program = start("control_plane", ["--registry", str(tmp_path / "registry"), "--http-address", "127.0.0.1:0"], tmp_path / "log")
    match = re.fullmatch(r"control plane ready on (http://127\.0\.0\.1:\d+)", program.announcement)
    assert match
    assert httpx.get(f"{match[1]}/api/v1/models/nobody", headers={"X-Secret": "s"}).status_code == 404
    program.process.send_signal(number)
    assert program.process.wait(10) == 0
    (line,) = program.log.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["method"], entry["path"], entry["status"]) == ("request", "GET", "/api/v1/models/nobody", 404)


def test_a_taken_port_is_said_with_how_to_choose_another(tmp_path: Path) -> None:
    create_registry(str(tmp_path / "registry"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(run("--registry", str(tmp_path / "registry"), "--http-address", address))
    assert address in line
    assert "--http-address" in line


def test_a_registry_that_is_none_is_said_and_not_made(tmp_path: Path) -> None:
    assert "no registry at" in refused(run("--registry", str(tmp_path / "absent"), "--http-address", "127.0.0.1:0"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert "is not a registry" in refused(run("--registry", str(tmp_path / "other"), "--http-address", "127.0.0.1:0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_an_address_open_to_others_is_refused_unless_said(tmp_path: Path) -> None:
    assert "--insecure" in refused(run("--http-address", "0.0.0.0:0"))
    assert read_settings({"http_address": "0.0.0.0:0", "insecure": True}).http_address == "0.0.0.0:0"
    for loopback in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        assert read_settings({"http_address": loopback}).http_address == loopback
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"http_address": "8000"}, "--http-address (TIDEGATE_HTTP_ADDRESS): '8000' is not HOST:PORT"),
        ({"http_address": "localhost:99999"}, "not HOST:PORT"),
        ({"daemon": ["nowhere"]}, "--daemon (TIDEGATE_DAEMON): 'nowhere' is not HOST:PORT"),
        ({"daemon": "http://there:80"}, "is not HOST:PORT"),
        ({"daemon": "unix:"}, "is not HOST:PORT"),
        ({"daemon": "unix://there/path"}, "is not HOST:PORT"),
        ({"daemon": ""}, "is not HOST:PORT"),
        ({"daemon": 5}, "--daemon"),
        ({"daemon": "a:1, a:1"}, "a daemon is named twice"),
        ({"daemon_timeout": "soon"}, "--daemon-timeout"),
        ({"daemon_timeout": "0"}, "--daemon-timeout"),
    ],
)
def test_a_wrong_setting_is_named(flags: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(flags)
    assert words in str(error.value)


def test_flags_go_before_the_environment_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tidegate.toml").write_text(
        'registry = "file"\nhttp_address = "127.0.0.1:1"\ndaemon_timeout = 1\ngrpc_address = "for the daemon"'
    )
    monkeypatch.setenv("TIDEGATE_HTTP_ADDRESS", "127.0.0.1:2")
    monkeypatch.setenv("TIDEGATE_DAEMON_TIMEOUT", "2")
    monkeypatch.setenv("TIDEGATE_DAEMON", "a:1, b:2")
    settings = read_settings({"daemon_timeout": "3"})
    assert (settings.registry, settings.http_address, settings.daemon_timeout) == ("file", "127.0.0.1:2", 3)
    assert settings.daemon == ("a:1", "b:2")
    assert read_settings({"daemon": "unix:/run/a.sock, unix:///run/b.sock"}).daemon == ("unix:/run/a.sock", "unix:///run/b.sock")


def test_another_file_may_be_named_and_must_be_there_and_readable(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('registry = "default"')
    (tmp_path / "other.toml").write_text('registry = "other"\ndaemon = ["a:1", "b:2"]')
    settings = read_settings({}, tmp_path / "other.toml")
    assert (settings.registry, settings.daemon) == ("other", ("a:1", "b:2"))
    assert "no such file" in refused(run("--config", "absent.toml"))
    (tmp_path / "tidegate.toml").write_text("registry = ")
    assert "tidegate.toml" in refused(run())


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--daemon-tls-ca", "absent.pem"], "cannot read absent.pem"),
        (["--daemon-tls-cert", "c.pem"], "--daemon-tls-ca"),
        (["--daemon", "models.example.org:8001", "--daemon-token-file", "token"], "in the clear"),
    ],
)
def test_credentials_for_the_daemon_that_cannot_be_used_are_named(flags: list[str], named: str, tmp_path: Path) -> None:
    create_registry(str(tmp_path / "registry"))
    assert named in refused(run("--registry", str(tmp_path / "registry"), "--http-address", "127.0.0.1:0", *flags))
