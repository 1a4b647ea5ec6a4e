"""Reading and appending to logs: checkpoints change nothing but the time it takes, and a log that is not whole is never written on."""

import shutil
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from registry import checkpoint
from registry.errors import CorruptError, ModelUnknownError, RuleError, StorageFullError
from registry.local_store import LocalStore
from registry.location import open_registry
from registry.names import blob_key, checkpoint_key, commit_key
from registry.registry import Registry
from registry.state import ModelState, fold
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, new_registry, on, register

LONG = checkpoint.EVERY * 2 + 20


@pytest.fixture(scope="module")
def long_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose model has commits for two checkpoints and a tail."""
    root = tmp_path_factory.mktemp("long") / "registry"
    registry = new_registry(root)
    register(registry, 2)
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="first")
    while registry.state(MODEL).seq < LONG - 1:
        registry.note(MODEL, 1 + registry.state(MODEL).seq % 2, actor=ACTOR, reason="time goes by")
    registry.promote(MODEL, 2, to="production", actor=ACTOR, reason="second")
    return root


@pytest.fixture
def copy(long_root: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(long_root, tmp_path / "registry"))


class CountingStore(LocalStore):
    """A folder that counts the values it is asked for."""

    asked = 0

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        self.asked += len(keys)
        return super().get(keys)


def replayed(registry: Registry) -> ModelState:
    return fold(ModelState(MODEL), registry.log(MODEL))


def test_a_state_read_from_a_checkpoint_is_the_fold_of_the_whole_log(long_root: Path) -> None:
    registry = open_registry(str(long_root))
    assert registry.state(MODEL) == replayed(registry)
    assert registry.state(MODEL).seq == LONG


def test_a_read_takes_one_checkpoint_and_the_commits_behind_it(long_root: Path) -> None:
    store = CountingStore(long_root)
    assert on(store).state(MODEL).seq == LONG
    assert store.asked < checkpoint.EVERY


def test_the_past_is_read_from_the_checkpoint_before_it(long_root: Path) -> None:
    store = CountingStore(long_root)
    registry = on(store)
    registry.state(MODEL)
    commits = list(registry.log(MODEL))
    for place in (0, 1, checkpoint.EVERY - 1, checkpoint.EVERY, LONG - 2, LONG - 1):
        expected = fold(ModelState(MODEL), commits[: place + 1])
        assert registry.state_at(MODEL, commits[place].time) == expected
        assert registry.state_at(MODEL, commits[place].time + timedelta(milliseconds=1)) == expected
    store.asked = 0
    registry.state_at(MODEL, commits[-1].time)
    assert store.asked < checkpoint.EVERY + 20
    assert registry.state_at(MODEL, commits[0].time - timedelta(seconds=1)).seq == 0


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json"])
def test_a_damaged_checkpoint_is_passed_over_and_named_by_verify(copy: Path, damage: bytes) -> None:
    key = checkpoint_key(MODEL, checkpoint.EVERY * 2)
    (copy / key).write_bytes(damage)
    registry = open_registry(str(copy))
    assert registry.state(MODEL) == replayed(registry)
    assert [problem.key for problem in examine(registry.store).problems] == [key]


@pytest.mark.parametrize("damage", [None, b"{}"])
def test_a_group_of_versions_that_is_gone_or_damaged_is_made_anew_from_the_log_and_named_by_verify(
    copy: Path, damage: bytes | None
) -> None:
    expected = replayed(open_registry(str(copy)))
    (digest,) = expected.versions.digests().values()
    path = copy / blob_key(digest)
    path.unlink() if damage is None else path.write_bytes(damage)
    registry = open_registry(str(copy))
    assert dict(registry.state(MODEL).versions) == dict(expected.versions)
    assert [problem.key for problem in examine(registry.store).problems] == [blob_key(digest)]


def test_without_any_checkpoint_the_whole_log_is_read(copy: Path) -> None:
    for path in (copy / "models" / MODEL / "checkpoints").iterdir():
        path.unlink()
    registry = open_registry(str(copy))
    assert registry.state(MODEL) == replayed(registry)
    assert examine(registry.store).problems == ()


@pytest.mark.parametrize("lost", [LONG - 1, LONG - 3, LONG - 15])
def test_a_hole_in_the_tail_is_said_and_never_filled(copy: Path, lost: int) -> None:
    (copy / commit_key(MODEL, lost)).unlink()
    registry = open_registry(str(copy))
    with pytest.raises(CorruptError, match=f"commit {lost} of .* is missing"):
        registry.note(MODEL, actor=ACTOR, reason="into the hole")
    assert not (copy / commit_key(MODEL, lost)).exists()


def test_a_hole_that_many_lost_commits_left_is_never_filled(copy: Path) -> None:
    for lost in range(LONG - 18, LONG):
        (copy / commit_key(MODEL, lost)).unlink()
    registry = open_registry(str(copy))
    with pytest.raises(CorruptError, match=f"commit {LONG - 18} of .* is missing, while the log goes on with commit {LONG}"):
        registry.note(MODEL, actor=ACTOR, reason="into the hole")


def test_a_log_cut_off_behind_a_checkpoint_is_said_by_who_only_reads(copy: Path) -> None:
    for seq in range(checkpoint.EVERY * 2, LONG + 1):
        (copy / commit_key(MODEL, seq)).unlink()
    with pytest.raises(CorruptError, match="named by a checkpoint, is gone"):
        open_registry(str(copy)).state(MODEL)


def test_a_refused_change_leaves_the_kept_state_as_it_was(registry: Registry) -> None:
    register(registry)
    before = registry.state(MODEL)
    with pytest.raises(RuleError):
        registry.rollback(MODEL, actor=ACTOR, reason="no")
    assert registry.state(MODEL) == before


def test_two_commits_that_say_the_same_at_the_same_time_have_different_bytes(root: Path) -> None:
    registry = new_registry(root)
    register(registry)
    shutil.copytree(root, root.with_name("twin"))
    stopped = registry.state(MODEL).updated
    assert stopped is not None
    twins = [open_registry(str(place), lambda: stopped) for place in (root, root.with_name("twin"))]
    first, second = (twin.note(MODEL, actor=ACTOR, reason="same") for twin in twins)
    assert (first.time, first.change, first.previous) == (second.time, second.change, second.previous)
    assert first.raw != second.raw


class NoRoomForCheckpoints(LocalStore):
    """A folder whose disk is full whenever a checkpoint is to be written."""

    def put_if_absent(self, key: str, chunks: Iterable[bytes]) -> bool:
        if "/checkpoints/" in key:
            raise StorageFullError(f"cannot write {key}: the disk is full")
        return super().put_if_absent(key, chunks)


def test_a_commit_counts_though_its_checkpoint_cannot_be_written(registry: Registry, root: Path) -> None:
    register(registry)
    full = on(NoRoomForCheckpoints(root))
    while full.note(MODEL, actor=ACTOR, reason="on").seq < checkpoint.EVERY + 1:
        pass
    assert not list(full.store.list(f"models/{MODEL}/checkpoints/"))
    assert open_registry(str(root)).state(MODEL) == full.state(MODEL) == replayed(full)


def test_a_model_nobody_registered_has_no_checkpoint(registry: Registry) -> None:
    with pytest.raises(ModelUnknownError, match="no model 'nobody'"):
        registry.checkpoint("nobody")
