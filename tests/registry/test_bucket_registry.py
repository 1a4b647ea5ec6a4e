"""A registry in a bucket is a registry: the same operations, the same guarantees, against a real S3 on the loopback."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry import archive
from registry.checkpoint import EVERY
from registry.errors import FormatError, NotARegistryError
from registry.local_store import LocalStore
from registry.location import Keys, create_registry, open_registry, open_store
from registry.names import MARKER, blob_key, commit_key
from registry.registry import Registry
from registry.route import Target
from registry.signing import generate
from registry.state import ModelState, fold
from registry.sweep import sweep, unused
from registry.verify import examine
from registry.watch import PollingWatcher, new_commits, watch
from tests.registry.fault_proxy import Fault, faulty
from tests.registry.helpers import ACTOR, MODEL, bundle, new_registry, on, register
from tests.registry.object_storage import ObjectStorage, free_port

WRITERS, COMMITS = 16, 200


@pytest.fixture
def url(object_storage: ObjectStorage) -> str:
    return object_storage.place()


@pytest.fixture
def registry(url: str) -> Registry:
    return create_registry(url)


def test_the_whole_life_of_versions_in_a_bucket(registry: Registry, url: str, tmp_path: Path) -> None:
    register(registry, 3)
    registry.attach(MODEL, 2, "load.json", b"{}", actor=ACTOR, reason="seen")
    registry.approve(MODEL, 2, actor="ben", reason="good")
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="first")
    registry.route(MODEL, Target(1, {1: 90, 2: 10}), actor=ACTOR, reason="canary")
    registry.rollback(MODEL, actor=ACTOR, reason="back")
    registry.retire(MODEL, 3, actor=ACTOR, reason="old")
    reader = open_registry(url)
    assert reader.models() == [MODEL]
    assert reader.state(MODEL) == registry.state(MODEL)
    assert (reader.state(MODEL).production, len(reader.state(MODEL).versions)) == (1, 3)
    assert reader.read(MODEL, 2, "model.onnx") == bundle("model 1")["model.onnx"]
    assert reader.evidence(MODEL, 2, "load.json") == b"{}"
    archive.export(reader, MODEL, 2, tmp_path / "two")
    assert archive.register(reader, archive.read(tmp_path / "two"), "copy", actor=ACTOR, reason="copied") == 1
    report = examine(reader.store)
    assert (report.problems, report.leftovers) == ((), ())
    reader.store.delete(blob_key(reader.manifest(MODEL, 2).file("model.onnx").sha256))
    reader.store.delete(commit_key(MODEL, 2))
    assert len(examine(reader.store).problems) == 2


def test_a_place_in_a_bucket_is_made_a_registry_once_and_nothing_else_is_taken_for_one(url: str, registry: Registry) -> None:
    register(registry)
    register(create_registry(url))
    assert len(open_registry(url).state(MODEL).versions) == 2
    with pytest.raises(NotARegistryError, match="no registry at"):
        open_registry(f"{url}-absent")
    other = open_store(url)
    other.put_if_absent("below/photo.jpg", [b"x"])
    with pytest.raises(NotARegistryError, match=r"not empty \(it has photo\.jpg\)"):
        create_registry(f"{url}/below")
    other.put_if_absent(f"newer/{MARKER}", [b'{"format":"tidegate.registry/9"}\n'])
    with pytest.raises(FormatError, match=r"registry\.json"):
        open_registry(f"{url}/newer")


def test_a_store_that_overwrites_although_told_not_to_does_not_become_a_registry(
    object_storage: ObjectStorage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(object_storage.port) as proxy:
        proxy.plan("PUT", *[Fault(lands=True, drops="if-none-match")] * 2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(NotARegistryError, match="overwrites although told not to"):
            create_registry(url)


def test_a_commit_whose_request_a_proxy_sent_twice_is_acknowledged_once(root: Path) -> None:
    class Twice(LocalStore):
        """A folder that is told everything twice, and answers what it said last."""

        def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
            parts = list(chunks)
            super().put_if_absent(key, parts)
            return super().put_if_absent(key, parts)

    register(new_registry(root))
    twice = on(Twice(root))
    assert [twice.note(MODEL, actor=ACTOR, reason="once").seq for _ in range(3)] == [2, 3, 4]
    assert [entry.seq for entry in twice.log(MODEL)] == [1, 2, 3, 4]


@pytest.mark.timeout(400)
def test_of_sixteen_writers_with_two_hundred_commits_each_exactly_one_wins_each_number(registry: Registry, url: str) -> None:
    register(registry)
    start, failed = threading.Barrier(WRITERS), list[BaseException]()
    told: list[tuple[int, str]] = []

    def write(me: int) -> None:
        mine = open_registry(url)
        start.wait()
        try:
            for number in range(COMMITS):
                entry = mine.note(MODEL, actor=f"writer-{me}", reason=f"{number}")
                told.append((entry.seq, entry.digest))
        except BaseException as error:  # noqa: BLE001 -- reported below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(me,)) for me in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    reader = open_registry(url)
    log = {entry.seq: entry for entry in reader.log(MODEL)}
    assert sorted(log) == list(range(1, WRITERS * COMMITS + 2))
    assert Counter(entry.change.actor for entry in log.values()) == Counter({f"writer-{me}": COMMITS for me in range(WRITERS)} | {ACTOR: 1})
    assert sorted(seq for seq, _ in told) == list(range(2, WRITERS * COMMITS + 2))
    assert all(log[seq].digest == digest for seq, digest in told)
    for me in range(WRITERS):
        assert [entry.change.reason for entry in log.values() if entry.change.actor == f"writer-{me}"] == list(map(str, range(COMMITS)))
    assert reader.state(MODEL) == fold(ModelState(MODEL), log.values())
    assert len(list(reader.store.list(f"models/{MODEL}/checkpoints/"))) == len(log) // EVERY
    assert examine(reader.store).problems == ()


def test_a_watcher_sees_a_commit_within_one_poll(registry: Registry, url: str) -> None:
    register(registry)
    assert isinstance(watch(url), PollingWatcher)
    watcher = PollingWatcher(open_store(url), 0.1)
    registry.note(MODEL, actor=ACTOR, reason="new")
    assert watcher.wait(5)
    stream = new_commits(open_registry(url), watcher, {MODEL: 1})
    assert next(stream).change.reason == "new"
    watcher.close()


def test_what_no_commit_refers_to_is_set_aside_and_deleted_an_hour_later(registry: Registry) -> None:
    register(registry)
    left = blob_key(registry.blobs.put("left", b"of a writer that died").sha256)
    assert unused(registry) == ()  # too young

    def at(hours: float) -> Registry:
        return replace(registry, clock=lambda: datetime.now(UTC) + timedelta(hours=hours))

    swept = sweep(at(1.01))
    assert [item.entry.key for item in swept.deleted] == [left]  # by a clock that is ahead, what was set aside just now is old
    assert left not in {entry.key for entry in registry.store.entries()}
    left = blob_key(registry.blobs.put("left", b"of another").sha256)
    (entry,) = [entry for entry in registry.store.entries() if entry.key == left]
    registry.store.move(entry, f"trash/{left}")
    assert sweep(registry).set_aside[0].entry.key == f"trash/{left}"
    assert [item.entry.key for item in sweep(at(1.01)).deleted] == [f"trash/{left}"]
    assert examine(registry.store).leftovers == ()


def test_signatures_hold_in_a_bucket_too(url: str, tmp_path: Path) -> None:
    public = generate(tmp_path / "ana.key")
    signed = create_registry(url, keys=Keys(tmp_path / "ana.key", public))
    register(signed)
    assert open_registry(url, keys=Keys(trusted_keys=public)).state(MODEL).seq == 1
    open_registry(url).note(MODEL, actor="eve", reason="not signed")
    assert [problem.key for problem in examine(signed.store, signed.trust).problems] == [commit_key(MODEL, 2)]


def test_an_object_store_that_does_not_answer_is_said_by_the_command_in_one_line(object_storage: ObjectStorage, url: str) -> None:
    code = [sys.executable, "-m", "clients.cli.main", "registry", "list", "--registry", url]
    environment = {**os.environ, **object_storage.environment(), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    done = subprocess.run(code, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tidegate: cannot read registry.json: the object store does not answer")
    assert done.stderr.count("\n") == 1
