"""Figures of the registry on this machine, each with the bar it is held to: `python -m tests.load.registry_bench [FOLDER]`.

Everything happens below FOLDER (by default a temporary one, removed afterwards); put it on the disk that is meant. Exit code 1 if a figure
misses its bar.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

from registry import checkpoint
from registry.commit import Change, Kind
from registry.disk import Disk
from registry.local_store import LocalStore
from registry.location import create_folder, open_registry, shared_guard
from registry.registry import Registry
from registry.verify import examine
from registry.watch import watch
from tests.registry.helpers import ACTOR, MODEL, bundle, field_of

COMMITS = 100_000
MODELS = 10_000
REGISTRATIONS = 200
COMMITS_WATCHED = 200
LARGE = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    measured: str
    bar: str
    met: bool | None = None
    """None where there is no bar"""


class UnsyncedDisk(Disk):
    """A disk that makes nothing durable: registries to be read are made in a tenth of the time."""

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        path.write_bytes(b"".join(chunks))

    def sync_folder(self, folder: Path) -> None:
        del folder


class CountingStore(LocalStore):
    """A folder that counts what is read from it."""

    checkpoints = commits = 0

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        found = super().get(keys)
        there = [key for key, raw in zip(keys, found, strict=True) if raw is not None]
        self.checkpoints += sum("/checkpoints/" in key for key in there)
        self.commits += sum("/log/" in key for key in there)
        return found


@dataclass
class TracingDisk(Disk):
    """The disk of this machine, which remembers every step, for them to be taken again with nothing around them."""

    steps: list[tuple[str, Path, Path | bytes | None]] = field(default_factory=list)

    def make_folder(self, folder: Path) -> None:
        self.steps.append(("mkdir", folder, None))
        super().make_folder(folder)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        content = b"".join(chunks)
        self.steps.append(("write", path, content))
        super().write(path, [content])

    def link(self, source: Path, target: Path) -> bool:
        self.steps.append(("link", source, target))
        return super().link(source, target)

    def remove(self, path: Path) -> None:
        self.steps.append(("remove", path, None))
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self.steps.append(("sync", folder, None))
        super().sync_folder(folder)


def main() -> int:
    """Measure everything and print the table."""
    measures = (long_log, many_models, registrations, watching, large_model)
    with folder() as room:
        figures = [figure for measure in measures for figure in measured(measure, room)]
    width = max(len(figure.what) for figure in figures)
    for figure in figures:
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        print(f"{figure.what.ljust(width)}  {figure.measured:>16}  {figure.bar:>22}  {verdict}".rstrip())
    return int(any(figure.met is False for figure in figures))


def measured(measure: Callable[[Path], Iterator[Figure]], room: Path) -> list[Figure]:
    print(f"{measure.__name__.replace('_', ' ')} ...", file=sys.stderr, flush=True)
    return list(measure(room))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as room:
        yield Path(room)


def unsynced(root: Path) -> Registry:
    create_folder(root)
    return Registry(LocalStore(root, UnsyncedDisk()), lambda: datetime.now(UTC), shared_guard())


def long_log(room: Path) -> Iterator[Figure]:
    """A model that is retrained: for each version five pieces of evidence, an approval, a stage, a route and a note."""
    root = room / "long"
    registry = unsynced(root)
    registry.register(MODEL, bundle(), {}, actor=ACTOR, reason="first")
    changes = retraining()
    last_before = COMMITS - COMMITS % checkpoint.EVERY - 1
    while registry.logs.state(MODEL).seq < last_before:
        change = next(changes)
        registry.logs.append(MODEL, lambda _, change=change: change)  # type: ignore[misc]
    yield from reading(root, f"state of {last_before:,} commits, longest tail")
    while registry.logs.state(MODEL).seq < COMMITS:
        change = next(changes)
        registry.logs.append(MODEL, lambda _, change=change: change)  # type: ignore[misc]
    yield from reading(root, f"state of {COMMITS:,} commits")
    taken, log = (size_of(root / "models" / MODEL / what) for what in ("checkpoints", "log"))
    groups = size_of(root / "blobs")
    yield Figure("  its checkpoints and their groups; itself", f"{(taken + groups) / MIB:.0f} MiB", f"{log / MIB:.0f} MiB")
    seconds = best(lambda: open_registry(str(root)).state_at(MODEL, registry.logs.commit(MODEL, COMMITS // 2).time))
    yield Figure("  state at a time half way, cold", f"{seconds * 1e3:.1f} ms", "")


def size_of(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def retraining() -> Iterator[Change]:
    for number in (number for number in cycle([0])):
        del number
        for version in range(2, COMMITS):
            about = {"version": version}
            yield Change(Kind.REGISTERED, {**about, "manifest": "a" * 64}, "pipeline", "retrained on the last month")
            for name in ("evaluation", "fairness", "load-test", "shadow", "drift"):
                yield Change(Kind.EVIDENCE, {**about, "name": name, "sha256": "b" * 64, "size": 9000}, "pipeline", "gate")
            yield Change(Kind.APPROVED, about, "ana@example.org", "reviewed the card")
            yield Change(Kind.STAGED, {**about, "stage": "staging"}, "pipeline", "to be tried")
            yield Change(Kind.ROUTED, {"stable": version}, "pipeline", "all gates passed")
            yield Change(Kind.NOTED, about, "ben@example.org", "no complaints")


def reading(root: Path, what: str) -> Iterator[Figure]:
    store = CountingStore(root)
    Registry(store, lambda: datetime.now(UTC), shared_guard()).state(MODEL)
    seconds = best(lambda: open_registry(str(root)).state(MODEL))
    yield Figure(f"{what}, cold", f"{seconds * 1e3:.2f} ms", "under 10 ms", seconds < 0.010)
    reads = f"{store.checkpoints} + {store.commits}"
    yield Figure("  checkpoints + commits read", reads, f"1 + {checkpoint.EVERY} at most", store.checkpoints == 1 and store.commits <= 128)


def best(act: Callable[[], object], turns: int = 15) -> float:
    """The median time of an act, in seconds."""
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def many_models(room: Path) -> Iterator[Figure]:
    root = room / "many"
    registry = unsynced(root)
    for number in range(MODELS):
        name = f"model-{number}"
        registry.logs.append(name, lambda _: Change(Kind.REGISTERED, {"version": 1, "manifest": "a" * 64}, ACTOR, "first"))
        registry.promote(name, 1, to="production", actor=ACTOR, reason="first")
    seconds = best(lambda: open_registry(str(root)).models(), 5)
    yield Figure(f"names of {MODELS:,} models, cold", f"{seconds * 1e3:.0f} ms", "under 1 s", seconds < 1)
    code = """
import sys, time
from registry import views
from registry.location import open_registry
start = time.perf_counter()
views.models(open_registry(sys.argv[1]))
print(time.perf_counter() - start)
"""
    taken = [float(subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True).stdout) for _ in range(5)]
    seconds = statistics.median(taken)
    yield Figure(f"list of {MODELS:,} models with their states, cold", f"{seconds * 1e3:.0f} ms", "under 1 s", seconds < 1)


def registrations(room: Path) -> Iterator[Figure]:
    """Turn by turn a registration, and the very steps it asked the disk for with nothing around them."""
    root, bare = room / "registered", room / "bare"
    create_folder(root)
    disk = TracingDisk()
    registry = Registry(LocalStore(root, disk), lambda: datetime.now(UTC), shared_guard())
    ours, theirs = [], []
    for number in range(REGISTRATIONS + 20):
        content = bundle(f"{number} " * 1000)
        disk.steps.clear()
        start = time.perf_counter()
        registry.register(MODEL, content, {"auc": 0.8}, actor=ACTOR, reason="measured")
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        again(disk.steps, root, bare)
        theirs.append(time.perf_counter() - start)
    registered, synced = statistics.median(ours[20:]), statistics.median(theirs[20:])
    syncs = sum(step in {"write", "sync"} for step, _, _ in disk.steps)
    yield Figure("registrations", f"{1 / registered:.0f} /s", "")
    yield Figure(f"  one, against its {syncs} fsyncs bare", f"{registered * 1e3:.2f} ms / {synced * 1e3:.2f} ms", "")
    yield Figure("  ratio", f"{registered / synced:.2f}", "at most 1.5", registered / synced <= 1.5)


def again(steps: list[tuple[str, Path, Path | bytes | None]], root: Path, bare: Path) -> None:
    disk = Disk()
    for step, path, more in steps:
        place = bare / path.relative_to(root)
        match step, more:
            case "mkdir", _:
                os.makedirs(place, exist_ok=True)  # noqa: PTH103 -- bare
            case "write", bytes():
                disk.write(place, [more])
            case "link", Path():
                os.link(place, bare / more.relative_to(root))
            case "remove", _:
                os.unlink(place)  # noqa: PTH108 -- bare
            case _:
                disk.sync_folder(place)


def watching(room: Path) -> Iterator[Figure]:
    root = room / "watched"
    registry = open_registry(str(create_folder(root).root))
    registry.register(MODEL, bundle(), {}, actor=ACTOR, reason="first")
    code = f"""
import sys, time
from registry.location import open_registry
registry = open_registry(sys.argv[1])
for line in sys.stdin:
    begun = time.monotonic()
    registry.note({MODEL!r}, actor="x", reason="x")
    print(begun, flush=True)
"""
    watcher, reader = watch(str(root)), open_registry(str(root))
    writer = subprocess.Popen([sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin
    assert writer.stdout
    delays = []
    for number in range(COMMITS_WATCHED):
        while watcher.wait(0.002):
            pass
        writer.stdin.write("go\n")
        writer.stdin.flush()
        while reader.state(MODEL).seq < 2 + number:
            watcher.wait(1)
        seen = time.monotonic()
        delays.append(seen - float(writer.stdout.readline()))
    writer.communicate()
    watcher.close()
    delays.sort()
    p50, p99 = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    yield Figure("a commit begun to seen by a watcher, p50 / p99", f"{p50 * 1e3:.1f} / {p99 * 1e3:.1f} ms", "p99 under 50 ms", p99 < 0.05)


def large_model(room: Path) -> Iterator[Figure]:
    """A process registers a file of 1 GiB; its memory and its child's, at most, above what both took before."""
    path = room / "large.onnx"
    with path.open("wb") as file:
        head, tail = large_onnx(LARGE)
        file.write(head)
        file.seek(LARGE, os.SEEK_CUR)
        file.write(tail)
    code = """
import sys
from pathlib import Path
from registry.location import create_registry
from tests.registry.helpers import ACTOR, MODEL, bundle
import os, subprocess

def peak():
    pids = [os.getpid(), *map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())]
    return sum(int(line.split()[1]) for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)

registry = create_registry(sys.argv[1])
registry.register(MODEL, bundle(), {}, actor=ACTOR, reason="baseline")
before = peak()
registry.register(MODEL, {**bundle(), "model.onnx": Path(sys.argv[2])}, {}, actor=ACTOR, reason="large")
print(before, peak())
"""
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code, str(room / "large"), str(path)], check=True, capture_output=True, text=True).stdout
    seconds = time.perf_counter() - start
    before, after = map(int, out.split())
    grown = (after - before) * 1024
    yield Figure("memory to register 1 GiB, above the baseline", f"{grown / MIB:.1f} MiB", "under 64 MiB", grown < 64 * MIB)
    yield Figure("  it took, at one hash, one scan and one write", f"{seconds:.1f} s", "")
    start = time.perf_counter()
    report = examine(open_registry(str(room / "large")).store)
    assert not report.problems
    yield Figure("  and to verify", f"{time.perf_counter() - start:.1f} s", "")


def large_onnx(size: int) -> tuple[bytes, bytes]:
    """What stands before and behind `size` bytes of weights in an ONNX file: y = x, and weights that nobody uses."""
    node = field_of(1, b"x") + field_of(2, b"y") + field_of(4, b"Identity")
    kind = field_of(1, b"\x08\x01" + field_of(2, b""))
    before = field_of(1, node) + field_of(2, b"g")
    behind = field_of(11, field_of(1, b"x") + field_of(2, kind)) + field_of(12, field_of(1, b"y") + field_of(2, kind))
    tensor = b"\x08" + varint(size // 4) + b"\x10\x01" + field_of(8, b"weights") + b"\x4a" + varint(size)
    initializer = b"\x2a" + varint(len(tensor) + size)
    graph = len(before) + len(initializer) + len(tensor) + size + len(behind)
    return b"\x08\x08\x3a" + varint(graph) + before + initializer + tensor, behind + field_of(8, b"\x10\x11")


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    found = b""
    while number > 0x7F:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


if __name__ == "__main__":
    sys.exit(main())
