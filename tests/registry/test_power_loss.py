"""Whatever POSIX lets a power loss take away, nothing acknowledged is gone and the registry can be written on.

A disk that records its steps runs a story; then every prefix of the steps, with every combination of those that were not yet made durable
lost or kept, is laid out as a folder, verified and written to. A step is durable when its file (its bytes) or its folder (its names) was
synced after it.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.disk import Disk
from registry.errors import RegistryError
from registry.local_store import LocalStore
from registry.location import create_folder, open_registry
from registry.sweep import sweep
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, bundle, on

if TYPE_CHECKING:
    from registry.registry import Registry

MOST_AT_RISK = 8
"""Steps not durable at one moment: 2 to this power worlds are laid out for it."""


FATES = ("kept", "lost")
DATA: dict[str, Callable[[bytes], bytes]] = {
    "kept": lambda data: data,
    "lost": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
}
"""What may be found of bytes that were not synced."""
DATA_FATES = tuple(DATA)


@dataclass(frozen=True)
class Step:
    """One step: what is done to `path` (`to` is its second name, `data` its bytes)."""

    what: str
    path: str
    to: str = ""
    data: bytes = b""


@dataclass
class RecordingDisk(Disk):
    """The disk of this machine, which remembers every step it took."""

    root: Path
    steps: list[Step] = field(default_factory=list)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def make_folder(self, folder: Path) -> None:
        new = not folder.exists()
        super().make_folder(folder)
        if new:
            self.steps.append(Step("mkdir", self._name(folder)))

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        content = b"".join(chunks)
        self.steps.append(Step("create", self._name(path)))
        self.steps.append(Step("data", self._name(path), data=content))
        super().write(path, [content])
        self.steps.append(Step("fsync", self._name(path)))

    def link(self, source: Path, target: Path) -> bool:
        done = super().link(source, target)
        if done:
            self.steps.append(Step("link", self._name(source), self._name(target)))
        return done

    def remove(self, path: Path) -> None:
        there = path.exists()
        super().remove(path)
        if there:
            self.steps.append(Step("unlink", self._name(path)))

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self.steps.append(Step("sync", self._name(folder)))


class CarelessDisk(RecordingDisk):
    """A disk that forgets one kind of step for logs: what the check must find."""

    forgets: str = ""

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        if self.forgets == "sync" and folder.name == "log":
            self.steps.pop()

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        super().write(path, chunks)
        if self.forgets == "fsync" and path.parent.name == "log":
            self.steps.pop()


@dataclass(frozen=True)
class Story:
    """The steps of a run, and after how many of them each commit was acknowledged."""

    steps: list[Step]
    acknowledged: list[tuple[int, int, str]]
    """after so many steps, commit seq, its digest"""


def run(root: Path, disk: RecordingDisk) -> Story:
    """Two versions, evidence, promotions, a rollback, a checkpoint and a sweep, each acknowledged."""
    create_folder(root)
    registry = on(LocalStore(root, disk))
    told: list[tuple[int, int, str]] = []

    def acknowledge() -> None:
        state = registry.state(MODEL)
        told.append((len(disk.steps), state.seq, state.head or ""))

    acts: list[Callable[[Registry], object]] = [
        lambda it: it.register(MODEL, bundle("one"), {}, actor=ACTOR, reason="first"),
        lambda it: it.promote(MODEL, 1, to="production", actor=ACTOR, reason="first"),
        lambda it: it.register(MODEL, bundle("two"), {}, actor=ACTOR, reason="second"),
        lambda it: it.attach(MODEL, 2, "report.json", b"{}", actor=ACTOR, reason="tested"),
        lambda it: it.promote(MODEL, 2, to="production", actor=ACTOR, reason="better"),
        lambda it: it.rollback(MODEL, actor=ACTOR, reason="worse"),
        lambda it: it.checkpoint(MODEL),
        lambda it: it.blobs.put("left", b"of a writer that died"),
        lambda it: sweep(replace(it, clock=lambda: datetime.now(UTC) + timedelta(hours=2))),
    ]
    for act in acts:
        act(registry)
        acknowledge()
    return Story(disk.steps, told)


def folder_of(name: str) -> str:
    return os.path.dirname(name) or "."  # noqa: PTH120 -- names, not paths


def at_risk(steps: list[Step]) -> list[int]:
    """Which steps a power loss after the last may still take away."""
    lost = []
    for place, step in enumerate(steps):
        after = steps[place + 1 :]
        match step.what:
            case "data":
                safe = any(later.what == "fsync" and later.path == step.path for later in after)
            case "mkdir" | "create" | "unlink":
                safe = any(later.what == "sync" and later.path == folder_of(step.path) for later in after)
            case "link":
                safe = any(later.what == "sync" and later.path == folder_of(step.to) for later in after)
            case _:
                safe = True
        if not safe:
            lost.append(place)
    return lost


def worlds(steps: list[Step]) -> Iterator[dict[str, bytes | None]]:
    """Every folder that may be found after a power loss behind the last step: files by name, None for a folder."""
    risky = at_risk(steps)
    assert len(risky) <= MOST_AT_RISK, [steps[place] for place in risky]
    for fates in itertools.product(*(DATA_FATES if steps[place].what == "data" else FATES for place in risky)):
        yield laid_out(steps, dict(zip(risky, fates, strict=True)))


def laid_out(steps: list[Step], fates: dict[int, str]) -> dict[str, bytes | None]:
    lost = {place for place, fate in fates.items() if fate == "lost"}
    inodes: dict[str, list[bytes]] = {}
    names: dict[str, list[bytes] | None] = {}
    for place, step in enumerate(steps):
        if step.what == "data":
            inodes[step.path].append(DATA[fates.get(place, "kept")](step.data))
        elif step.what == "create":
            inodes[step.path] = []
            if place not in lost:
                names[step.path] = inodes[step.path]
        elif place in lost or step.what in {"fsync", "sync"}:
            continue
        elif step.what == "mkdir":
            names[step.path] = None
        elif step.what == "link":
            names[step.to] = inodes[step.to] = inodes[step.path]
        elif step.what == "unlink":
            names.pop(step.path, None)
    # What is in a folder whose own name was lost cannot be found.
    reachable = {name for name in names if all(parent in names for parent in parents(name))}
    return {name: None if (data := names[name]) is None else b"".join(data) for name in reachable}


def parents(name: str) -> Iterator[str]:
    while (name := folder_of(name)) != ".":
        yield name


def build(world: dict[str, bytes | None], root: Path, marker: bytes) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "registry.json").write_bytes(marker)
    for name in sorted(world):
        data = world[name]
        if data is None:
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(data)


def what_is_wrong(root: Path, acknowledged: dict[int, str]) -> str:
    """Why this folder is not a registry in which everything acknowledged is; empty if it is."""
    registry = open_registry(str(root))
    report = examine(registry.store)
    if report.problems:
        return str(report.problems[0])
    try:
        log = {entry.seq: entry.digest for entry in registry.log(MODEL)}
        if not acknowledged.items() <= log.items():
            return f"lost {sorted(acknowledged.items() - log.items())}"
        number = registry.register(MODEL, bundle("afterwards"), {}, actor=ACTOR, reason="goes on")
        registry.read(MODEL, number, "model.onnx")
    except RegistryError as error:
        return str(error)
    return ""


def scratch(tmp_path: Path) -> Path:
    memory = Path("/dev/shm")  # noqa: S108 -- where there is one: a world is a hundred files
    return memory / f"tidegate-{os.getpid()}" if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path / "world"


def failures(story: Story, place: Path, marker: bytes) -> Iterator[str]:
    seen: set[int] = set()
    try:
        for end in range(len(story.steps) + 1):
            acknowledged = {seq: digest for after, seq, digest in story.acknowledged if after <= end}
            for world in worlds(story.steps[:end]):
                key = hash((frozenset(world.items()), len(acknowledged)))
                if key not in seen:
                    seen.add(key)
                    build(world, place, marker)
                    if wrong := what_is_wrong(place, acknowledged):
                        yield f"after step {end} ({story.steps[end - 1]}): {wrong}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    yield f"worlds: {len(seen)}"


def test_no_power_loss_at_any_step_takes_away_what_was_acknowledged(root: Path, tmp_path: Path) -> None:
    story = run(root, RecordingDisk(root))
    *wrong, counted = failures(story, scratch(tmp_path), (root / "registry.json").read_bytes())
    print(len(story.steps), "steps,", counted)  # noqa: T201
    assert wrong == []
    assert int(counted.split()[1]) > 100


@pytest.mark.parametrize("forgets", ["sync", "fsync"])
def test_a_store_that_forgets_to_sync_is_found(root: Path, tmp_path: Path, forgets: str) -> None:
    disk = CarelessDisk(root)
    disk.forgets = forgets
    story = run(root, disk)
    first = story.acknowledged[0]
    *wrong, _ = failures(Story(story.steps[: first[0]], [first]), scratch(tmp_path), (root / "registry.json").read_bytes())
    assert wrong
    assert any({"sync": "lost", "fsync": "checksum"}[forgets] in line or "not valid JSON" in line for line in wrong)
