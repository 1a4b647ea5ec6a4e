"""The operations: register, promote, roll back, read, look into the past."""

import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from registry.errors import (
    CorruptError,
    FormatError,
    InvalidNameError,
    ModelUnknownError,
    NotARegistryError,
    NotFoundError,
    RuleError,
    StoreError,
    VersionUnknownError,
)
from registry.local_store import LocalStore
from registry.location import local_root, open_registry
from registry.names import PRODUCTION, STAGING, blob_key, manifest_key
from registry.registry import Registry
from registry.verify import verify
from tests.registry.helpers import ACTOR, MODEL, Clock, bundle, files, model, new_registry, on, register


def promote(registry: Registry, version: int, to: str = PRODUCTION) -> None:
    registry.promote(MODEL, version, to=to, actor=ACTOR, reason=f"version {version} to {to}")


def test_versions_are_numbered_from_one_and_their_files_come_back_byte_for_byte(registry: Registry) -> None:
    register(registry, 3)
    assert sorted(registry.state(MODEL).versions) == [1, 2, 3]
    for number in (1, 2, 3):
        assert registry.read(MODEL, number, "model.onnx") == model(f"model {number - 1}")
        assert registry.manifest(MODEL, number).facts["auc"] == pytest.approx(0.4 + number / 10)


def test_a_file_is_registered_from_its_path_without_being_read_at_once(registry: Registry, tmp_path: Path) -> None:
    content = model("x" * 5_000_000)
    (tmp_path / "big").write_bytes(content)
    registry.register(MODEL, {**bundle(), "model.onnx": tmp_path / "big"}, {}, actor=ACTOR, reason="big")
    assert registry.read(MODEL, 1, "model.onnx") == content
    assert registry.manifest(MODEL, 1).file("model.onnx").size == len(content)


def test_the_same_file_in_two_versions_is_stored_once(registry: Registry, root: Path) -> None:
    register(registry, 2)
    assert len([name for name in files(root) if name.startswith("blobs/")]) == 3


def test_rollback_restores_the_route_before_exactly(registry: Registry) -> None:
    register(registry, 3)
    promote(registry, 1)
    before = registry.state(MODEL)
    promote(registry, 2)
    registry.rollback(MODEL, actor=ACTOR, reason="worse")
    after = registry.state(MODEL)
    assert after.routes == before.routes
    assert (after.production, after.staging) == (1, None)
    promote(registry, 3)
    promote(registry, 2)
    registry.rollback(MODEL, actor=ACTOR, reason="worse")
    registry.rollback(MODEL, actor=ACTOR, reason="worse still")
    assert registry.state(MODEL).routes == before.routes
    with pytest.raises(RuleError, match="no earlier production route"):
        registry.rollback(MODEL, actor=ACTOR, reason="once more")


def test_a_version_leaves_staging_when_it_goes_to_production(registry: Registry) -> None:
    register(registry, 2)
    promote(registry, 2, STAGING)
    assert registry.state(MODEL).stage_of(2) == STAGING
    promote(registry, 2)
    assert registry.state(MODEL).stage_of(2) == PRODUCTION
    assert registry.state(MODEL).staging is None


def test_a_refused_change_writes_nothing(registry: Registry, root: Path) -> None:
    register(registry)
    promote(registry, 1)
    before = files(root)
    with pytest.raises(VersionUnknownError):
        promote(registry, 2)
    with pytest.raises(RuleError):
        promote(registry, 1)
    with pytest.raises(RuleError):
        registry.rollback(MODEL, actor=ACTOR, reason="no")
    with pytest.raises(InvalidNameError):
        promote(registry, 1, "prod")
    with pytest.raises(ModelUnknownError, match=f"known: {MODEL}"):
        registry.promote("other", 1, to=STAGING, actor=ACTOR, reason="no")
    with pytest.raises(RuleError, match=r"missing: signature\.json"):
        registry.register(MODEL, {"model.onnx": b"x"}, {}, actor=ACTOR, reason="no")
    with pytest.raises(InvalidNameError):
        registry.register(MODEL, {**bundle(), "../x": b"x"}, {}, actor=ACTOR, reason="no")
    with pytest.raises(InvalidNameError):
        registry.register("../m", bundle(), {}, actor=ACTOR, reason="no")
    with pytest.raises(RuleError, match="say the reason"):
        registry.register(MODEL, bundle("new"), {}, actor=ACTOR, reason="")
    assert files(root) == before


def test_facts_json_cannot_hold_are_refused_and_nothing_is_visible(registry: Registry) -> None:
    with pytest.raises(FormatError, match="canonical JSON"):
        registry.register(MODEL, bundle(), {"auc": float("nan")}, actor=ACTOR, reason="no")
    assert registry.models() == []


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_visible(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="absent"):
        registry.register(MODEL, {**bundle(), "model.onnx": tmp_path / "absent"}, {}, actor=ACTOR, reason="no")
    assert registry.models() == []


class BusyFolder(LocalStore):
    """A folder beside which someone goes on writing the file that is being registered."""

    source: Path

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        with self.source.open("ab") as file:
            file.write(b"more")
        return super().put_if_absent(key, chunks)


def test_a_file_that_changes_while_it_is_registered_leaves_no_blob_of_a_wrong_name(registry: Registry, root: Path, tmp_path: Path) -> None:
    store = BusyFolder(root)
    store.source = tmp_path / "unfinished.onnx"
    store.source.write_bytes(model("half a model"))
    writer = on(store)
    with pytest.raises(CorruptError, match=r"model\.onnx changed while it was being registered"):
        writer.register(MODEL, {**bundle(), "model.onnx": store.source}, {}, actor=ACTOR, reason="too early")
    assert registry.models() == []
    assert verify(store) == ()
    assert not any(name.startswith("blobs/") for name in files(root))


def test_the_past_is_the_same_fold_stopped_earlier(root: Path) -> None:
    clock = Clock()
    registry = new_registry(root)
    registry = open_registry(str(root), clock)
    register(registry, 2)
    promote(registry, 1)
    between = clock.now
    seen = registry.state(MODEL)
    promote(registry, 2)
    assert registry.state_at(MODEL, between) == seen
    assert registry.state_at(MODEL, between + timedelta(days=1)) == registry.state(MODEL)
    assert registry.state_at(MODEL, between - timedelta(days=1)).seq == 0
    with pytest.raises(ModelUnknownError):
        registry.state_at("other", between)


def test_a_clock_that_goes_back_does_not_make_the_log_go_back(root: Path) -> None:
    clock = Clock()
    new_registry(root)
    registry = open_registry(str(root), clock)
    register(registry, 2)
    promote(registry, 1)
    noon = clock.now
    clock.now -= timedelta(hours=1)
    promote(registry, 2)
    times = [entry.time for entry in registry.log(MODEL)]
    assert times == sorted(times)
    assert registry.state_at(MODEL, noon) == registry.state(MODEL)
    assert registry.state_at(MODEL, noon - timedelta(microseconds=1)).production is None
    assert verify(registry.store) == ()


def test_a_reader_follows_what_another_writes(registry: Registry, root: Path) -> None:
    reader = open_registry(root.as_uri())
    assert reader.models() == []
    register(registry)
    assert reader.state(MODEL) == registry.state(MODEL)
    promote(registry, 1)
    assert reader.state(MODEL).production == 1


def test_unknown_things_are_named_with_what_there_is(registry: Registry) -> None:
    with pytest.raises(ModelUnknownError, match="known: none"):
        registry.state(MODEL)
    register(registry, 2)
    with pytest.raises(VersionUnknownError, match="registered: 1, 2"):
        registry.manifest(MODEL, 3)
    with pytest.raises(NotFoundError, match=r"has no golden\.npz"):
        registry.read(MODEL, 1, "golden.npz")


def test_bytes_that_changed_on_the_disk_are_never_handed_out(registry: Registry, root: Path) -> None:
    register(registry, 2)
    digest = registry.manifest(MODEL, 1).file("model.onnx").sha256
    (root / blob_key(digest)).write_bytes(b"else")
    with pytest.raises(CorruptError, match="run verify"):
        registry.read(MODEL, 1, "model.onnx")
    (root / blob_key(digest)).unlink()
    with pytest.raises(CorruptError, match="missing"):
        registry.read(MODEL, 1, "model.onnx")
    (root / manifest_key(MODEL, 2)).write_bytes((root / manifest_key(MODEL, 1)).read_bytes())
    with pytest.raises(CorruptError, match="not the registered one"):
        registry.read(MODEL, 2, "model.onnx")


def test_a_number_taken_by_a_writer_that_died_stays_unused(registry: Registry, root: Path) -> None:
    register(registry)
    (root / manifest_key(MODEL, 2)).parent.mkdir()
    (root / manifest_key(MODEL, 2)).write_bytes(b"half")
    register(registry)
    assert sorted(registry.state(MODEL).versions) == [1, 3]


def test_stray_files_are_no_models(registry: Registry, root: Path) -> None:
    register(registry)
    (root / "models" / "stray").write_text("x")
    (root / "models" / "UPPER" / "log").mkdir(parents=True)
    (root / "models" / "UPPER" / "log" / "x").write_text("x")
    assert registry.models() == [MODEL]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b", "/a/b"),
        ("file://localhost/a%20b", "/a b"),
        ("./x", "x"),
        ("/a/b", "/a/b"),
        ("a:b", "a:b"),
    ],
)
def test_a_url_names_a_folder(url: str, path: str) -> None:
    assert local_root(url) == Path(path)


@pytest.mark.parametrize("url", ["", "http://x/y", "file://host/x", "a\0b", "file:///a%00b", "file:///a?b", "FTP://x"])
def test_a_url_that_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(NotARegistryError, match="use file:///path, a path, s3://, gs://, az://"):
        local_root(url)


def test_a_registry_deleted_or_restored_under_a_reader_is_said_and_not_followed(registry: Registry, root: Path, tmp_path: Path) -> None:
    register(registry, 2)
    backup = tmp_path / "backup"
    shutil.copytree(root, backup)
    promote(registry, 1)
    assert registry.state(MODEL).production == 1
    shutil.rmtree(root)
    with pytest.raises(NotARegistryError, match="deleted or moved"):
        registry.models()
    with pytest.raises(CorruptError, match="gone"):
        registry.state(MODEL)
    shutil.copytree(backup, root)
    promote(open_registry(str(root)), 2)
    with pytest.raises(CorruptError, match="another one now"):
        registry.state(MODEL)
    assert open_registry(str(root)).state(MODEL).production == 2


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "half a letter \ud800"])
def test_a_reason_that_is_none_is_refused_and_nothing_is_written(registry: Registry, reason: str) -> None:
    register(registry, 1)
    with pytest.raises(RuleError, match="reason"):
        registry.promote(MODEL, 1, to=PRODUCTION, actor=ACTOR, reason=reason)
    assert registry.state(MODEL).production is None
