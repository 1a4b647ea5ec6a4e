"""What no commit refers to goes, an hour after it was written; what a commit refers to, or is about to, never does."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry import checkpoint
from registry.commit import Change, Kind
from registry.disk import Disk
from registry.errors import CorruptError, ModelUnknownError
from registry.local_store import LocalStore
from registry.location import open_registry, shared_guard
from registry.names import TRASH, blob_key, checkpoint_key, commit_key, manifest_key, trash_key
from registry.registry import Registry
from registry.sweep import GRACE, sweep, unused
from registry.verify import examine
from tests.load.registry_bench import unsynced
from tests.registry.helpers import ACTOR, MODEL, bundle, files, new_registry, register


def later(registry: Registry, hours: float = 2) -> Registry:
    """The same registry, some hours from now."""
    return replace(registry, clock=lambda: datetime.now(UTC) + timedelta(hours=hours))


def left_behind(root: Path) -> list[str]:
    """What writers leave that die before their commit."""
    registry = open_registry(str(root))
    digest = registry.blobs.put("left", b"of a writer that died").sha256
    registry.store.put_if_absent(manifest_key(MODEL, 9), [b"no commit names it"])
    (root / "models" / MODEL / "log" / ".tmp-0123").write_bytes(b"half")
    return sorted([blob_key(digest), manifest_key(MODEL, 9), f"models/{MODEL}/log/.tmp-0123"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    registry = new_registry(root)
    register(registry, 3)
    registry.attach(MODEL, 1, "load.json", b"evidence", actor=ACTOR, reason="seen")
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="go")
    registry.retire(MODEL, 3, actor=ACTOR, reason="old")
    return root


def test_a_dry_run_names_what_would_go_and_changes_nothing(root: Path) -> None:
    left = left_behind(root)
    before = files(root)
    found = unused(later(open_registry(str(root))))
    assert sorted(item.entry.key for item in found) == left
    assert {item.what for item in found} == {"blob", "manifest", "unfinished"}
    assert files(root) == before


def test_what_no_commit_refers_to_goes_and_all_else_stays(root: Path) -> None:
    before = files(root)
    left = left_behind(root)
    registry = open_registry(str(root))
    swept = sweep(later(registry))
    assert sorted(item.entry.key for item in swept.deleted) == left
    assert (swept.set_aside, swept.put_back) == ((), ())
    assert files(root) == before
    report = examine(registry.store)
    assert (report.problems, report.leftovers) == ((), ())
    assert sweep(later(registry)).deleted == ()


def test_nothing_younger_than_an_hour_is_touched(root: Path) -> None:
    left = left_behind(root)
    registry = open_registry(str(root))
    before = files(root)
    assert sweep(later(registry, 0.9)).deleted == ()
    assert unused(registry) == ()
    assert files(root) == before
    young, *old = left
    for name in old:
        os.utime(root / name, (0, 0))
    assert sorted(item.entry.key for item in sweep(registry).deleted) == old
    assert (root / young).exists()


def test_old_checkpoints_go_but_for_the_newest_two_and_one_in_thirty_two(tmp_path: Path) -> None:
    registry = unsynced(tmp_path / "long")
    register(registry)
    while registry.note(MODEL, actor=ACTOR, reason="on").seq < 34 * checkpoint.EVERY:
        pass
    before = registry.state(MODEL)
    swept = sweep(later(registry))
    assert {item.what for item in swept.deleted} == {"checkpoint"}
    assert len(swept.deleted) == 31
    left = sorted(registry.store.list(f"models/{MODEL}/checkpoints/"))
    assert left == [checkpoint_key(MODEL, number * checkpoint.EVERY) for number in (32, 33, 34)]
    assert open_registry(str(tmp_path / "long")).state(MODEL) == before
    assert examine(registry.store).problems == ()


@pytest.mark.parametrize("lost", [(1,), (1, 2, 3, 4), (3,), (6,), (3, 4, 5, 6), (1, 2, 3, 4, 5, 6)])
def test_nothing_goes_that_a_lost_commit_or_one_behind_it_refers_to(root: Path, lost: tuple[int, ...]) -> None:
    open_registry(str(root)).checkpoint(MODEL)
    left_behind(root)
    for path in root.rglob("*"):
        os.utime(path, (0, 0))
    for seq in lost:
        (root / commit_key(MODEL, seq)).unlink()
    before = files(root)
    with pytest.raises((CorruptError, ModelUnknownError)):
        sweep(open_registry(str(root)))
    assert files(root) == before


def test_where_a_manifest_or_a_log_cannot_be_read_nothing_goes(root: Path) -> None:
    left_behind(root)
    path = root / manifest_key(MODEL, 2)
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    before = files(root)
    with pytest.raises(CorruptError, match="nothing is removed: run verify"):
        sweep(later(open_registry(str(root))))
    assert files(root) == before
    path.write_bytes(whole)
    (root / "models" / MODEL / "log" / f"{2:020d}.json").unlink()
    before = files(root)
    with pytest.raises(CorruptError, match="is missing"):
        sweep(later(open_registry(str(root))))
    assert files(root) == before


def test_what_a_commit_refers_to_by_now_is_put_back_by_the_next_run(root: Path) -> None:
    registry = open_registry(str(root))
    digest = registry.blobs.put("left", b"late evidence").sha256
    # A sweep that was killed when it had set this aside, and a writer that committed in between.
    (entry,) = [entry for entry in registry.store.entries() if entry.key == blob_key(digest)]
    assert registry.store.move(entry, trash_key(entry.key))
    registry.logs.append(MODEL, lambda _: _evidence(digest))
    swept = sweep(later(registry))
    assert swept.put_back == (blob_key(digest),)
    assert registry.evidence(MODEL, 1, "late") == b"late evidence"
    assert examine(registry.store).problems == ()


def test_a_value_a_writer_relies_on_is_not_set_aside_however_old_it_is(root: Path) -> None:
    registry = open_registry(str(root))
    digest = registry.blobs.put("left", b"old and useful").sha256
    path = root / blob_key(digest)
    os.utime(path, (0, 0))
    (item,) = unused(registry)
    assert not registry.store.put_if_absent(blob_key(digest), [b"old and useful"])  # a writer that found it there
    assert not registry.store.move(item.entry, trash_key(item.entry.key))
    assert path.read_bytes() == b"old and useful"
    assert unused(registry) == ()


class WatchedDisk(Disk):
    """A disk beside which something happens at one step of a sweep."""

    def __init__(self, step: str, act: Callable[[], object]) -> None:
        self.step, self.act = step, act

    def happened(self, step: str, path: Path) -> None:
        if step == self.step and (TRASH in f"{path}" or step == "remove"):
            self.step = ""
            self.act()

    def make_folder(self, folder: Path) -> None:
        super().make_folder(folder)
        self.happened("begin", folder)

    def link(self, source: Path, target: Path) -> bool:
        done = super().link(source, target)
        self.happened("link", target)
        return done

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.happened("remove", path)


@pytest.mark.parametrize("step", ["begin", "link", "remove"])
def test_a_version_registered_in_the_middle_of_a_sweep_keeps_the_files_that_are_being_swept(root: Path, step: str) -> None:
    writer = open_registry(str(root))
    for file in bundle("swept").values():
        os.utime(root / blob_key(writer.blobs.put("left", file).sha256), (0, 0))
    registered: list[int] = []

    def act() -> None:
        registered.append(writer.register(MODEL, bundle("swept"), {}, actor=ACTOR, reason="in the middle"))

    sweep(on_time(LocalStore(root, WatchedDisk(step, act))))
    (version,) = registered
    assert writer.read(MODEL, version, "model.onnx") == bundle("swept")["model.onnx"]
    report = examine(writer.store)
    assert (report.problems, report.leftovers) == ((), ())


def on_time(store: LocalStore) -> Registry:
    return Registry(store, lambda: datetime.now(UTC), shared_guard())


def test_a_sweep_killed_at_any_moment_loses_nothing(root: Path) -> None:
    code = """
import sys
from registry.location import open_registry
from registry.sweep import sweep
print("ready", flush=True)
sweep(open_registry(sys.argv[1]))
"""
    registry = open_registry(str(root))
    generator = random.Random(5)  # noqa: S311
    print("seed 5")  # noqa: T201
    before = files(root)
    for turn in range(15):
        for number in range(40):
            path = root / blob_key(registry.blobs.put("left", f"{turn} {number}".encode()).sha256)
            os.utime(path, (0, 0))
        process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        assert examine(registry.store).problems == ()
        assert before.items() <= files(root).items()
    sweep(later(registry))
    assert files(root) == before
    assert timedelta(hours=1) == GRACE


def _evidence(digest: str) -> Change:
    return Change(Kind.EVIDENCE, {"version": 1, "name": "late", "sha256": digest, "size": 13}, ACTOR, "late")


@pytest.mark.parametrize("what", ["bundle", "evidence"])
def test_what_was_swept_before_the_commit_that_refers_to_it_is_put_again(root: Path, what: str) -> None:
    """As on an object store, which cannot tell that a writer relies on what it found."""

    class Swept(LocalStore):
        """A folder in which a sweep takes everything unused away just before a commit is made."""

        def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
            if "/log/" in key:
                for digest in left:
                    self.delete(blob_key(digest))
            return super().put_if_absent(key, chunks)

    registry = open_registry(str(root))
    left = [registry.blobs.put("left", content).sha256 for content in (bundle("swept")["model.onnx"], b"evidence that was swept")]
    writer = on_time(Swept(root))
    if what == "bundle":
        version = writer.register(MODEL, bundle("swept"), {}, actor=ACTOR, reason="late")
        assert registry.read(MODEL, version, "model.onnx") == bundle("swept")["model.onnx"]
    else:
        writer.attach(MODEL, 1, "late.json", b"evidence that was swept", actor=ACTOR, reason="late")
        assert registry.evidence(MODEL, 1, "late.json") == b"evidence that was swept"
    assert examine(registry.store).problems == ()
