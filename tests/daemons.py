"""Starts real daemons on free ports for tests. No test lives here."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from clients.demo.programs import Program, running
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import inference_pb2_grpc as pb_grpc

READY_SECONDS = 20.0


@dataclass(frozen=True)
class Daemon:
    """A running daemon, where it listens, and a stub to it."""

    program: Program
    address: str
    metrics_url: str
    stub: pb_grpc.GRPCInferenceServiceStub

    def wait_for(self, model: str, version: str = "") -> None:
        """Return once the model, or this version of it, is ready."""
        wait_until(lambda: self._ready(model, version), f"{model} {version} is not ready")

    def _ready(self, model: str, version: str) -> bool:
        try:
            return bool(self.stub.ModelReady(pb.ModelReadyRequest(name=model, version=version), timeout=5).ready)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}:
                return False
            raise


@contextlib.contextmanager
def daemon(folder: Path, flags: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon with `flags` on free ports; its log goes to `folder`."""
    with running("server", {"grpc-address": "127.0.0.1:0", "metrics-address": "127.0.0.1:0", **flags}, folder / "daemon.log") as program:
        match = re.fullmatch(r"daemon listening on (\S+), metrics on (\S+)", program.announcement)
        assert match, program.announcement
        with grpc.insecure_channel(match[1]) as channel:
            yield Daemon(program, match[1], match[2], pb_grpc.GRPCInferenceServiceStub(channel))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Replicas:
    """A running parent, the address its replicas share, and the metrics of each."""

    program: Program
    address: str
    metrics_urls: list[str]

    def pids(self) -> list[int]:
        """The processes that the parent has started and that are there now."""
        parent = self.program.process.pid
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    def log(self) -> str:
        """What parent and replicas have logged so far."""
        return self.program.log.read_text()


@contextlib.contextmanager
def replicas(folder: Path, number: int, flags: Mapping[str, str]) -> Iterator[Replicas]:
    """So many replicas with `flags` on free ports; their log goes to `folder`."""
    own = {"grpc-address": "127.0.0.1:0", "metrics-address": "127.0.0.1:0", "replicas": str(number)}
    with running("server", {**own, **flags}, folder / "replicas.log") as program:
        match = re.fullmatch(rf"{number} replicas listening on (\S+), metrics on (.+)", program.announcement)
        assert match, program.announcement
        yield Replicas(program, match[1], match[2].split(", "))


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = READY_SECONDS) -> None:
    """Return once `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.01)
