"""A writer that dies at any moment leaves a registry that everyone can read and go on writing."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from registry.local_store import LocalStore
from registry.location import open_registry
from registry.verify import examine, verify
from tests.registry.helpers import ACTOR, MODEL, bundle, new_registry, on, register

KILLS = 200
AT_ONCE = 4
FRESH_AFTER = 16
"""Kills after which a new registry is begun: the older one is, the longer its verification takes."""
SEED = 20260131


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    generator = random.Random(SEED)  # noqa: S311
    print(f"seed {SEED}")  # noqa: T201
    root, kills, told = tmp_path, 0, 0
    acknowledged: dict[int, str] = {}
    versions: set[int] = set()
    while kills < KILLS:
        if kills % FRESH_AFTER == 0:
            root = tmp_path / f"registry-{kills}"
            new_registry(root)
            acknowledged, versions = {}, set()
        for heard in killed(root, generator):
            kills += 1
            for what, value in heard:
                if what == "version":
                    versions.add(int(value))
                else:
                    acknowledged[int(what)] = value
            check(root, acknowledged, versions)
        told += len(acknowledged)
    assert told > KILLS / 4  # killed at work, not before
    registry = open_registry(str(root))
    before = registry.state(MODEL).seq
    register(registry)
    assert registry.state(MODEL).seq == before + 1


def killed(root: Path, generator: random.Random) -> Iterator[list[tuple[str, str]]]:
    """Start writers that work at once, kill one after the other, and give what each had acknowledged, while the others go on."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.registry.writer", str(root), f"writer-{me}", "60"], stdout=subprocess.PIPE, text=True
        )
        for me in range(AT_ONCE)
    ]
    for writer in writers:
        assert writer.stdout is not None
        first = writer.stdout.readline()  # it is at work
        time.sleep(generator.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        # Not communicate(): it would pass over what readline() has taken from the pipe already.
        rest = writer.stdout.read()
        writer.wait(timeout=10)
        writer.stdout.close()
        lines = (first + rest).splitlines(keepends=True)
        yield [(what, value) for what, value in (line.split() for line in lines if line.endswith("\n"))]


def check(root: Path, acknowledged: dict[int, str], versions: set[int]) -> None:
    registry = open_registry(str(root))
    log = {entry.seq: entry.digest for entry in registry.log(MODEL)}
    assert acknowledged.items() <= log.items()
    state = registry.state(MODEL)
    assert versions <= set(state.versions)
    assert verify(registry.store) == ()
    newest = max(state.versions)
    assert b"writer-" in registry.read(MODEL, newest, "model.onnx")


class DyingFolder(LocalStore):
    """A folder whose writer dies before it puts its n-th value."""

    left: int

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().put_if_absent(key, chunks)


# The signature is that of version 1 and already there, so that its blob is no leftover.
@pytest.mark.parametrize(("puts", "leftovers"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3)])
def test_a_crash_before_the_commit_leaves_nothing_visible_and_only_leftovers(root: Path, puts: int, leftovers: int) -> None:
    registry = new_registry(root)
    register(registry)
    before = registry.state(MODEL)
    store = DyingFolder(root)
    store.left = puts
    with pytest.raises(KeyboardInterrupt):
        on(store).register(MODEL, {**bundle("new"), "golden.npz": b"rows"}, {}, actor=ACTOR, reason="dies")
    reader = open_registry(str(root))
    assert reader.state(MODEL) == before
    report = examine(reader.store)
    assert report.problems == ()
    assert len(report.leftovers) == leftovers
    register(reader)
    assert verify(reader.store) == ()


def test_a_new_model_is_not_seen_before_its_first_commit(root: Path) -> None:
    new_registry(root)
    store = DyingFolder(root)
    store.left = 3
    with pytest.raises(KeyboardInterrupt):
        on(store).register(MODEL, bundle(), {}, actor=ACTOR, reason="dies")
    assert open_registry(str(root)).models() == []
    assert len(examine(LocalStore(root)).leftovers) == 3
