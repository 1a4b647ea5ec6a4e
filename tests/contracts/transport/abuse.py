"""A daemon that is abused, what it takes, and others who call it meanwhile. No test lives here."""

import contextlib
import resource
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc

from registry.location import create_registry
from tests import models
from tests.contracts.transport.calls import in_flight
from tests.contracts.transport.frames import REQUEST
from tests.contracts.transport.wire import MODEL_INFER
from tests.daemons import Daemon, daemon, wait_until

MEBIBYTE = 1 << 20


@contextlib.contextmanager
def scaled(folder: Path, flags: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon that serves `scaled` and has answered before: what it takes once is not what abuse leaves."""
    registry = create_registry(str(folder / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(folder, {"registry": str(folder / "registry"), **flags}) as running:
        running.wait_for("scaled")
        for _ in range(200):
            infer(running)
        yield running


def infer(running: Daemon) -> None:
    """A call on a connection of its own."""
    with grpc.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        data = channel.unary_unary(MODEL_INFER, bytes, bytes)(REQUEST, timeout=5)
    assert data


def resident(running: Daemon) -> int:
    """Bytes of memory of the daemon's process."""
    pages = int(Path(f"/proc/{running.program.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextlib.contextmanager
def harmless(running: Daemon, leaves: int = 48 * MEBIBYTE) -> Iterator[None]:
    """Afterwards a caller is answered promptly, nothing is in flight, memory is about what it was, and the log has no failure."""
    before = resident(running)
    yield
    begun = time.perf_counter()
    infer(running)
    assert time.perf_counter() - begun < 1
    wait_until(lambda: in_flight(running) == 0, "requests are in flight for ever", 10)
    wait_until(lambda: resident(running) - before < leaves, f"memory grew from {before >> 20} MiB and stayed", 10)
    assert "Traceback" not in running.program.log.read_text()
    assert "exc_info" not in running.program.log.read_text()


class Others:
    """A caller beside the abuse: the seconds that each of its calls took, and the most memory it saw the daemon take."""

    def __init__(self, running: Daemon) -> None:
        self.seconds: list[float] = []
        self.most = 0
        self._running = running
        self._over = threading.Event()
        self._failed: list[grpc.RpcError] = []

    def call(self) -> None:
        """Call until it is over."""
        with grpc.insecure_channel(self._running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = channel.unary_unary(MODEL_INFER, bytes, bytes)
            while not self._over.is_set():
                begun = time.perf_counter()
                try:
                    ask(REQUEST, timeout=10)
                except grpc.RpcError as error:
                    self._failed.append(error)
                self.seconds.append(time.perf_counter() - begun)
                self.most = max(self.most, resident(self._running))
                self._over.wait(0.005)

    def end(self) -> None:
        """Ask no more."""
        self._over.set()

    def check(self, bound: float) -> None:
        """Fail unless all were answered, and nine of ten within so many seconds: a shared machine stops for as long now and then."""
        assert not self._failed, self._failed[0]
        assert len(self.seconds) >= 20
        assert sorted(self.seconds)[len(self.seconds) * 9 // 10] < bound, sorted(self.seconds)[-5:]


@contextlib.contextmanager
def others(running: Daemon, bound: float = 0.5) -> Iterator[Others]:
    """Somebody calls during the block, and is answered."""
    caller = Others(running)
    thread = threading.Thread(target=caller.call)
    thread.start()
    try:
        yield caller
        while len(caller.seconds) < 20 and thread.is_alive():
            time.sleep(0.01)
    finally:
        caller.end()
        thread.join()
    caller.check(bound)
