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


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = READY_SECONDS) -> None:
    """Return once `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.01)
