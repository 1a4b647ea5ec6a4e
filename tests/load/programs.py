"""Programs under load: started on the cores that are theirs, waited for, ended by their process. What they are is said by the figures."""

import contextlib
import mmap
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from clients.demo.programs import Program, ProgramError, start
from tests.daemons import wait_until
from tests.exposition import scrape
from tests.load.messages import PATH
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import inference_pb2_grpc as pb_grpc

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / ".venv" / ".cargo" / "target")) / "release"
GENERATOR, BARE = BUILT / "tidegate-load", BUILT / "tidegate-echo"
"""What `generator/` is built into"""


def cores() -> tuple[int, int]:
    """The core of the server and that of the load: the first and the last that this process may use, the same where there is but one."""
    allowed = sorted(_ALLOWED)
    return allowed[0], allowed[-1]


_ALLOWED = os.sched_getaffinity(0)


@contextlib.contextmanager
def on_cores(*numbers: int) -> Iterator[None]:
    """Run this thread, and let programs started meanwhile run, on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Served:
    """A server under load: its process, its gRPC address HOST:PORT, and where its metrics are, one place for each replica.

    `authorities` is a file of PEM where it speaks TLS.
    """

    program: Program
    address: str
    metrics: tuple[str, ...] = ()
    authorities: Path | None = None

    @property
    def pid(self) -> int:
        """The process to look at."""
        return self.program.process.pid

    def is_ready(self, model: str) -> bool:
        """Whether it answers and serves this model."""
        with channel(self) as to:
            try:
                stub = pb_grpc.GRPCInferenceServiceStub(to)  # type: ignore[no-untyped-call]
                return bool(stub.ModelReady(pb.ModelReadyRequest(name=model), timeout=5).ready)
            except grpc.RpcError:
                return False

    @property
    def cpu_seconds(self) -> float:
        """Processor time its threads have taken so far, to the nanosecond; one that has ended meanwhile is left out."""
        taken = 0
        for place in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                taken += int(place.read_text("utf-8").split()[0])
        return taken / 1e9

    @property
    def resident(self) -> int:
        """Bytes of its memory that are in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("utf-8").split()[1]) * mmap.PAGESIZE

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels over all replicas, 0 where there is none yet."""
        samples = [sample for place in self.metrics for sample in scrape(place)]
        return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def channel(served: Served) -> grpc.Channel:
    """A new connection to it."""
    if served.authorities is None:
        return grpc.insecure_channel(served.address)
    return grpc.secure_channel(served.address, grpc.ssl_channel_credentials(served.authorities.read_bytes()))


def infer(served: Served, message: bytes) -> bytes:
    """The answer to one serialised request, serialised.

    Raises:
        grpc.RpcError: if it is not OK.
    """
    return next(answers(served, (message,)))


def answers(served: Served, messages: Iterable[bytes]) -> Iterator[bytes]:
    """The answers to several, one after the other; as `infer`."""
    with channel(served) as to:
        call = to.unary_unary(PATH, request_serializer=bytes, response_deserializer=bytes)
        for message in messages:
            yield bytes(call(message, timeout=10))


@contextlib.contextmanager
def tidegate(
    folder: Path,
    flags: Mapping[str, str],
    *models: str,
    module: str = "server",
    on: Sequence[int] | None = None,
    authorities: Path | None = None,
) -> Iterator[Served]:
    """The daemon with `flags` on free ports of loopback, once `models` are ready.

    `module` is what stands for it; `authorities` who says that it is who it is, where it speaks TLS.
    """
    given = {"grpc-address": "127.0.0.1:0", "metrics-address": "127.0.0.1:0", **flags}
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    with _running(module, arguments, folder / f"daemon-{time.monotonic_ns()}.log", on) as program:
        address = re.search(r"listening on (\S+:\d+)", program.announcement)
        assert address, program.announcement
        places = tuple(re.findall(r"http://[^\s,]+/metrics", program.announcement))
        served = Served(program, address[1], places, authorities)
        for model in models:
            wait_until(lambda model=model: served.is_ready(model), f"{model} is not ready", READY_SECONDS)  # type: ignore[misc]
        yield served


@contextlib.contextmanager
def echo(folder: Path, answer_bytes: int) -> Iterator[Served]:
    """The bare gRPC server, whose answers have that many bytes."""
    with _running("tests.load.echo_server", [str(answer_bytes)], folder / "echo.log", None) as program:
        yield Served(program, program.announcement.split()[-1])


@contextlib.contextmanager
def bare_http2(folder: Path, answer_bytes: int) -> Iterator[Served]:
    """The bare HTTP/2 server in Rust, whose answers have that many bytes."""
    log = folder / "bare.log"
    with on_cores(cores()[0]), log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen([str(BARE), str(answer_bytes)], stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    program = Program(process, process.stdout.readline().strip(), log)
    try:
        yield Served(program, program.announcement.split()[-1])
    finally:
        program.stop()


@contextlib.contextmanager
def _running(module: str, arguments: Sequence[str], log: Path, on: Sequence[int] | None) -> Iterator[Program]:
    with on_cores(*(on or cores()[:1])):
        program = start(module, arguments, log)
    try:
        yield program
    finally:
        program.stop()


@contextlib.contextmanager
def foreign(command: Sequence[str], port: int, model: str, log: Path) -> Iterator[Served]:
    """Another project's server, that says nothing when it listens: waited for until its model is ready."""
    with on_cores(cores()[0]), log.open("w", encoding="utf-8") as output:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # ours is not theirs
        process = subprocess.Popen(command, stdout=output, stderr=output, text=True, start_new_session=True, env=environment)
    served = Served(Program(process, "", log), f"127.0.0.1:{port}")
    try:
        wait_until(
            lambda: process.poll() is not None or served.is_ready(model), f"{command[0]} is not ready; {log} says why", READY_SECONDS
        )
        if process.poll() is not None:
            raise ProgramError(f"{command[0]} ended: {log.read_text(encoding='utf-8')[-1000:]}")
        yield served
    finally:
        served.program.stop()


def free_port() -> int:
    """A port that was free a moment ago, for servers that take no 0."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
