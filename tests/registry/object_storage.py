"""Starts a real object store for tests: ministack's S3, on the loopback only, in a folder that goes away. No test lives here."""

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from registry.object_store import Patience

BUCKET = "tidegate-tests"
KEY, SECRET = "tidegate", "tidegate-secret"
HASTY = Patience(connect=0.2, silence=0.5, reads=0.7, write=0.5, part=1.5, copy=1.5, writes=1.2, pause=0.01)
"""What a test waits for a store that does not answer."""
_READY_SECONDS, _STOP_SECONDS = 20.0, 10.0
_FOREIGN = ("AWS_", "AZURE_", "GOOGLE_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_places = itertools.count()


@dataclass(frozen=True)
class ObjectStorage:
    """A running S3, and how it is reached."""

    port: int
    pid: int

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def place(self) -> str:
        """The URL of a place in the bucket that no other test uses."""
        return f"s3://{BUCKET}/{os.getpid()}-{next(_places)}/registry"

    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to use it."""
        return environment(self.endpoint)

    def make_folder(self, key: str) -> None:
        """What a console makes to show a folder that is empty: a value of no bytes whose key ends in `/`."""
        _ask(self.endpoint, f"{BUCKET}/{key}", "PUT")

    def uploads(self) -> list[str]:
        """The keys of uploads in parts that were begun and neither completed nor aborted; a listing does not show them."""
        return re.findall(r"<Key>([^<]*)</Key>", _ask(self.endpoint, f"{BUCKET}?uploads").decode())


def environment(endpoint: str) -> dict[str, str]:
    """What a program needs in its environment to use the object store at `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """S3 with an empty bucket; the environment says how to reach it, and nothing else of any cloud."""
    with pytest.MonkeyPatch.context() as patch, running(tmp_path_factory.mktemp("object-storage")) as storage:
        for name in [name for name in os.environ if name.startswith(_FOREIGN) or name.lower() in _PROXIES]:
            patch.delenv(name)
        for name, value in storage.environment().items():
            patch.setenv(name, value)
        _ask(storage.endpoint, BUCKET, "PUT")
        yield storage


@contextlib.contextmanager
def running(folder: Path, *, checks_keys: bool = False) -> Iterator[ObjectStorage]:
    """S3 without a bucket in a process that ends with the context. With `checks_keys` it knows one key, and refuses all others."""
    with (folder / "ministack.log").open("wb") as log:
        program, port = _start(folder, log.fileno(), checks_keys=checks_keys)
        try:
            yield ObjectStorage(port, program.pid)
        finally:
            _stop(program)


def free_port() -> int:
    """A port of the loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one_line(error: BaseException) -> str:
    """The text of an error, which is one line that a person can read."""
    text = str(error)
    assert "\n" not in text
    assert "<" not in text
    assert len(text) < 400
    return text


def _start(folder: Path, log: int, *, checks_keys: bool) -> tuple[subprocess.Popen[bytes], int]:
    # Another process may take a port that was free a moment ago.
    for _ in range(3):
        port = free_port()
        settings = _settings(folder, port, checks_keys=checks_keys)
        program = subprocess.Popen([sys.executable, "-m", "ministack"], env=settings, cwd=folder, stdout=log, stderr=log)
        if _is_ready(program, port):
            return program, port
        _stop(program)
    pytest.fail(f"ministack does not start: {(folder / 'ministack.log').read_text()}")


def _settings(folder: Path, port: int, *, checks_keys: bool) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "PERSIST_STATE": "0",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        # On by default, on every interface: an MQTT broker at 8883 and, once asked for, SFTP at 2222.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # It stops containers that it takes for its own, if it finds a Docker.
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "LOG_LEVEL": "WARNING",
        "AUTH": "true" if checks_keys else "false",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def _is_ready(program: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _READY_SECONDS
    while program.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            _ask(f"http://127.0.0.1:{port}", "_ministack/ready")
            return program.poll() is None
        time.sleep(0.02)
    return False


def _stop(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


def _ask(endpoint: str, path: str, method: str = "GET") -> bytes:
    return httpx.request(method, f"{endpoint}/{path}", timeout=10, trust_env=False).raise_for_status().content
