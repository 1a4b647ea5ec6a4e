"""Verification finds every kind of damage and tampering and names the object; a whole registry verifies clean."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from registry import canonical, sealing
from registry.audit import Problem
from registry.canonical import JsonObject
from registry.commit import Change, Commit, Kind, at_place, parse
from registry.location import open_registry
from registry.names import MARKER, blob_key, commit_key, manifest_key
from registry.registry import Registry
from registry.verify import describe, examine, verify
from tests.registry.helpers import ACTOR, LAST, MODEL, files, filled


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with three versions, three routes and a second model."""
    return filled(tmp_path / "registry")


def found(root: Path) -> tuple[Problem, ...]:
    return verify(open_registry(str(root)).store)


def blamed(root: Path) -> list[str]:
    return [problem.key for problem in found(root)]


def entry(root: Path, seq: int) -> Commit:
    return parse((root / commit_key(MODEL, seq)).read_bytes())


def rewrite(root: Path, seq: int, change: Callable[[Commit], Commit]) -> None:
    """Put another commit at this place, with a checksum that is right: what someone who knows the format can do."""
    new = change(entry(root, seq))
    raw = at_place(new.change, model=new.model, seq=new.seq, previous=new.previous, time=new.time).raw
    (root / commit_key(MODEL, seq)).write_bytes(raw)


def test_what_was_written_verifies_clean_and_is_counted(root: Path) -> None:
    report = examine(open_registry(str(root)).store)
    assert (report.problems, report.leftovers) == ((), ())
    assert (report.models, report.commits, report.versions, report.blobs) == (2, 7, 4, 4)
    assert list(describe(report)) == ["all as written: 2 models, 4 versions, 7 commits, 4 blobs"]


def test_an_empty_registry_verifies_clean(registry: Registry) -> None:
    assert verify(registry.store) == ()


def test_one_flipped_bit_anywhere_is_found_and_its_file_named(root: Path) -> None:
    generator = random.Random(7)  # noqa: S311
    print("seed 7")  # noqa: T201
    writer = open_registry(str(root))
    writer.attach("other", 1, "load.json", b'{"p99_ms": 4}', actor=ACTOR, reason="seen")
    writer.checkpoint("other")
    whole = files(root)
    assert any("/checkpoints/" in name for name in whole)
    store = open_registry(str(root)).store
    for name, content in whole.items():
        for _ in range(8):
            bit = generator.randrange(len(content) * 8)
            broken = bytearray(content)
            broken[bit // 8] ^= 1 << (bit % 8)
            (root / name).write_bytes(broken)
            assert {problem.key for problem in verify(store)} == {name}, (name, bit)
        (root / name).write_bytes(content)
    assert found(root) == ()


def test_a_marker_of_something_else_is_named(root: Path) -> None:
    store = open_registry(str(root)).store
    (root / MARKER).write_bytes(b'{"format":"tidegate.registry/9"}\n')
    assert [problem.key for problem in verify(store)] == [MARKER]


@pytest.mark.parametrize("seq", range(1, LAST))
def test_a_missing_commit_before_the_last_is_named(root: Path, seq: int) -> None:
    (root / commit_key(MODEL, seq)).unlink()
    assert blamed(root) == [commit_key(MODEL, seq)]


def test_a_gap_of_several_commits_is_named_once_where_it_begins(root: Path) -> None:
    for seq in (3, 4):
        (root / commit_key(MODEL, seq)).unlink()
    assert found(root) == (Problem(commit_key(MODEL, 3), "is missing, while the log goes on with commit 5"),)


def test_a_number_far_away_is_a_gap_and_no_endless_search(root: Path) -> None:
    shutil.copy(root / commit_key(MODEL, LAST), root / commit_key(MODEL, 10**20 - 1))
    assert blamed(root) == [commit_key(MODEL, LAST + 1), commit_key(MODEL, 10**20 - 1)]


@pytest.mark.parametrize("keep", [0, 1, 30, -1])
def test_a_truncated_commit_is_named(root: Path, keep: int) -> None:
    for seq in (1, 3, LAST):
        path = root / commit_key(MODEL, seq)
        whole = path.read_bytes()
        path.write_bytes(whole[:keep])
        assert blamed(root) == [commit_key(MODEL, seq)]
        path.write_bytes(whole)


def test_two_commits_that_changed_places_are_both_named(root: Path) -> None:
    four, five = ((root / commit_key(MODEL, seq)).read_bytes() for seq in (4, 5))
    (root / commit_key(MODEL, 4)).write_bytes(five)
    (root / commit_key(MODEL, 5)).write_bytes(four)
    assert blamed(root) == [commit_key(MODEL, 4), commit_key(MODEL, 5)]


def test_a_commit_of_another_model_is_named(root: Path) -> None:
    shutil.copy(root / commit_key("other", 1), root / commit_key(MODEL, 2))
    (problem,) = found(root)
    assert problem == Problem(commit_key(MODEL, 2), "holds commit 1 of 'other': it was moved or copied here")


@pytest.mark.parametrize(
    "change",
    [
        lambda old: replace(old, time=old.time + timedelta(seconds=1)),
        lambda old: replace(old, change=replace(old.change, actor="mallory")),
        lambda old: replace(old, change=replace(old.change, reason="it was not me")),
    ],
)
@pytest.mark.parametrize("seq", [1, 4, 5])
def test_a_commit_rewritten_with_a_right_checksum_is_named(root: Path, seq: int, change: Callable[[Commit], Commit]) -> None:
    rewrite(root, seq, change)
    assert commit_key(MODEL, seq) in blamed(root)
    assert "changed after it was written" in str(found(root))


def test_a_newest_commit_dated_before_its_predecessor_is_named(root: Path) -> None:
    rewrite(root, LAST, lambda old: replace(old, time=old.time - timedelta(days=1)))
    (problem,) = found(root)
    assert problem.key == commit_key(MODEL, LAST)
    assert "before its predecessor" in problem.what


def test_a_forked_log_is_named_where_it_parts(root: Path) -> None:
    stranger = at_place(
        Change(Kind.ROUTED, {"stable": 3}, "mallory", "mine"), model=MODEL, seq=5, previous="f" * 64, time=entry(root, 5).time
    )
    (root / commit_key(MODEL, 5)).write_bytes(stranger.raw)
    assert blamed(root)[:2] == [commit_key(MODEL, 4), commit_key(MODEL, 5)]


def test_a_log_whose_beginning_was_replaced_is_named(root: Path) -> None:
    rewrite(root, 1, lambda old: replace(old, previous="f" * 64))
    assert "names a predecessor, though it is the first" in str(found(root))


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        (Kind.ROUTED, {"stable": 3}, "already in production"),
        (Kind.ROUTED, {"stable": 9}, "no version 9"),
        (Kind.ROLLED_BACK, {"stable": 1}, "nothing else"),
        (Kind.REGISTERED, {"version": 1, "manifest": "a" * 64}, "already registered"),
        (Kind.REGISTERED, {"version": -1, "manifest": "a" * 64}, "a version number"),
        (Kind.STAGED, {"stage": "staging"}, "a version number"),
    ],
)
def test_a_commit_at_its_place_that_breaks_a_rule_is_named(root: Path, kind: Kind, payload: JsonObject, says: str) -> None:
    last = entry(root, LAST)
    bad = at_place(Change(kind, payload, "mallory", "why not"), model=MODEL, seq=LAST + 1, previous=last.digest, time=last.time)
    (root / commit_key(MODEL, LAST + 1)).write_bytes(bad.raw)
    problems = [problem for problem in found(root) if problem.key == commit_key(MODEL, LAST + 1)]
    assert any(says in problem.what for problem in problems)


def test_a_missing_or_exchanged_manifest_is_named(root: Path) -> None:
    shutil.copy(root / manifest_key(MODEL, 1), root / manifest_key(MODEL, 2))
    (root / manifest_key(MODEL, 3)).unlink()
    assert blamed(root) == [manifest_key(MODEL, 2), manifest_key(MODEL, 3)]


def test_a_missing_blob_is_named_with_the_file_it_was(root: Path) -> None:
    digest = open_registry(str(root)).manifest(MODEL, 2).file("model.onnx").sha256
    (root / blob_key(digest)).unlink()
    assert found(root) == (Problem(blob_key(digest), f"is missing: model.onnx of version 2 of {MODEL!r}"),)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "models/x",
        f"models/{MODEL}/log/1.json",
        f"models/{MODEL}/log/{'0' * 20}.json",
        f"models/{MODEL}/versions/1/extra.json",
        "models/UPPER/log/00000000000000000001.json",
        "blobs/x",
        f"blobs/sha256/00/{'a' * 64}",
    ],
)
def test_a_file_that_does_not_belong_is_named(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("x")
    assert blamed(root) == [name]


def test_what_a_writer_that_died_left_is_listed_and_no_problem(root: Path) -> None:
    left = [blob_key("a" * 64), manifest_key(MODEL, 9), f"models/{MODEL}/log/.tmp-0123"]
    for name in left:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    report = examine(open_registry(str(root)).store)
    assert report.problems == ()
    assert sorted(report.leftovers) == sorted(left)
    assert next(describe(report)) == "3 leftovers of writers that died or are at work; harmless, gc removes them"


@pytest.mark.parametrize("spaced", [lambda raw: raw.replace(b'"seq":', b'"seq": '), lambda raw: raw.replace(b'"seq":', b'"seq":99,"seq":')])
def test_a_commit_that_says_the_same_in_other_bytes_is_named(root: Path, spaced: Callable[[bytes], bytes]) -> None:
    path = root / commit_key(MODEL, LAST)
    value = {key: item for key, item in parse(path.read_bytes()).value.items() if key != sealing.CHECKSUM}
    body = spaced(canonical.encode(value))
    field = f'"checksum":"{canonical.digest(body)}",'.encode()
    path.write_bytes(body.replace(b'"format"', field + b'"format"', 1))
    assert blamed(root) == [commit_key(MODEL, LAST)]
