"""Many writers at once: one winner for each number, and nothing acknowledged is lost."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from registry.errors import ConflictError, RuleError
from registry.local_store import LocalStore
from registry.location import create_folder, open_registry
from registry.store import get_one
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, bundle, new_registry, on, register

WRITERS = 8


def test_of_eight_threads_that_put_one_key_exactly_one_wins(root: Path) -> None:
    create_folder(root)
    wins: list[tuple[int, int]] = []
    start = threading.Barrier(WRITERS)

    def write(me: int) -> None:
        store = LocalStore(root)
        start.wait()
        wins.extend((number, me) for number in range(50) if store.put_if_absent(f"models/m/log/{number}", [f"{me}".encode() * 100]))

    threads = [threading.Thread(target=write, args=(me,)) for me in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in wins) == list(range(50))
    for number, me in wins:
        assert get_one(LocalStore(root), f"models/m/log/{number}") == f"{me}".encode() * 100
    assert not any(entry.unfinished for entry in LocalStore(root).entries())


def test_eight_processes_on_one_log_lose_no_acknowledged_commit_and_leave_no_gap(root: Path) -> None:
    new_registry(root)
    command = [sys.executable, "-m", "tests.registry.writer", str(root)]
    writers = [subprocess.Popen([*command, f"writer-{me}", "1"], stdout=subprocess.PIPE, text=True) for me in range(WRITERS)]
    out = [writer.communicate(timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    lines = [line.split() for part in out for line in part.splitlines()]
    versions = [int(number) for what, number in lines if what == "version"]
    promoted = {int(seq): digest for seq, digest in lines if seq != "version"}
    registry = open_registry(str(root))
    log = {entry.seq: entry.digest for entry in registry.log(MODEL)}
    assert sorted(log) == list(range(1, len(log) + 1))
    assert promoted.items() <= log.items()
    assert len(versions) == len(set(versions)) == len(registry.state(MODEL).versions)
    assert len(log) == len(versions) + len(promoted)
    report = examine(registry.store)
    assert (report.problems, report.leftovers) == ((), ())


def test_the_loser_of_a_race_checks_its_rule_again(root: Path) -> None:
    registry = new_registry(root)
    register(registry, 2)
    late = open_registry(str(root))
    late.state(MODEL)  # what it knows is about to be outdated
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="first")
    with pytest.raises(RuleError, match="already in production"):
        late.promote(MODEL, 1, to="production", actor="ben", reason="second")
    assert late.promote(MODEL, 2, to="production", actor="ben", reason="second").seq == 4


class TakenFolder(LocalStore):
    """A folder on which someone else always commits first."""

    def put_if_absent(self, key: str, chunks: object) -> bool:  # noqa: ARG002
        if "/log/" not in key:
            return True
        rival = on(LocalStore(self.root))
        rival.promote(MODEL, 2 if rival.state(MODEL).production == 1 else 1, to="production", actor="rival", reason="faster")
        return False


def test_who_always_loses_gives_up_with_a_conflict_and_has_written_nothing(root: Path) -> None:
    register(new_registry(root), 3)
    late = on(TakenFolder(root))
    with pytest.raises(ConflictError, match="others keep committing; try again"):
        late.promote(MODEL, 3, to="production", actor="late", reason="mine")
    assert all(entry.change.actor != "late" for entry in late.log(MODEL))


def test_threads_with_a_registry_each_share_a_folder(root: Path) -> None:
    new_registry(root)
    numbers: list[int] = []

    def write(me: int) -> None:
        registry = open_registry(str(root))
        numbers.extend(registry.register(MODEL, bundle(f"{me} {count}"), {}, actor=f"{me}", reason="go") for count in range(5))

    threads = [threading.Thread(target=write, args=(me,)) for me in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(numbers)) == WRITERS * 5
    assert examine(LocalStore(root)).problems == ()
