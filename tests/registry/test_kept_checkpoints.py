"""Checkpoints kept elsewhere find what nobody can see from inside: commits cut off, models gone, a whole log written anew."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry import checkpoint, commit
from registry.audit import Problem
from registry.checkpoint import Checkpoint
from registry.location import open_registry
from registry.names import checkpoint_key, commit_key
from registry.verify import examine
from tests.registry.helpers import ACTOR, LAST, MODEL, filled

if TYPE_CHECKING:
    from registry.commit import Commit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return filled(tmp_path / "registry")


@pytest.fixture
def kept(root: Path) -> Checkpoint:
    """What was kept elsewhere; the registry itself has no checkpoint."""
    registry = open_registry(str(root))
    return checkpoint.parse(checkpoint.encode(registry.state(MODEL)))


def found(root: Path, *kept: Checkpoint) -> list[Problem]:
    return list(examine(open_registry(str(root)).store, kept=kept).problems)


def test_a_log_that_grew_since_agrees(root: Path, kept: Checkpoint) -> None:
    open_registry(str(root)).note(MODEL, actor=ACTOR, reason="goes on")
    assert found(root, kept) == []


@pytest.mark.parametrize("left", range(1, LAST))
def test_newest_commits_that_were_cut_off_are_found(root: Path, kept: Checkpoint, left: int) -> None:
    for seq in range(left + 1, LAST + 1):
        (root / commit_key(MODEL, seq)).unlink()
    assert [problem for problem in found(root) if "commit" in problem.key] == []  # from inside nobody can see it
    (problem,) = found(root, kept)
    assert problem.key == commit_key(MODEL, LAST)
    assert "the newest commits were cut off" in problem.what


def test_a_model_that_is_gone_is_found(root: Path, kept: Checkpoint) -> None:
    shutil.rmtree(root / "models" / MODEL)
    assert found(root) == []
    (problem,) = found(root, kept)
    assert problem.key == commit_key(MODEL, LAST)


@pytest.mark.parametrize("first", [1, 4, LAST])
def test_a_log_written_anew_and_stamped_anew_from_some_commit_on_is_found(root: Path, kept: Checkpoint, first: int) -> None:
    before: Commit | None = None
    for seq in range(1, LAST + 1):
        path = root / commit_key(MODEL, seq)
        old = commit.parse(path.read_bytes())
        later = timedelta(hours=1) if seq >= first else timedelta(0)
        new = commit.at_place(old.change, model=MODEL, seq=seq, previous=before.digest if before else None, time=old.time + later)
        before = new if seq >= first else old
        path.write_bytes(before.raw)
    assert found(root) == []
    (problem,) = found(root, kept)
    assert problem.key == commit_key(MODEL, LAST)
    assert "the log was rewritten" in problem.what


def test_a_log_cut_off_and_continued_otherwise_is_found(root: Path, kept: Checkpoint) -> None:
    for seq in (5, 6):
        (root / commit_key(MODEL, seq)).unlink()
    forger = open_registry(str(root))
    for _ in range(4):
        forger.note(MODEL, actor="mallory", reason="nothing happened")
    assert found(root) == []
    assert [problem.key for problem in found(root, kept)] == [commit_key(MODEL, LAST)]


def test_commits_cut_off_behind_a_checkpoint_in_the_registry_are_found_without_one_elsewhere(root: Path) -> None:
    open_registry(str(root)).checkpoint(MODEL)
    for seq in (5, 6):
        (root / commit_key(MODEL, seq)).unlink()
    assert [problem.key for problem in found(root)] == [commit_key(MODEL, LAST)]


def test_a_forged_checkpoint_in_the_registry_is_found(root: Path) -> None:
    registry = open_registry(str(root))
    state = registry.state(MODEL)
    registry.checkpoint(MODEL)
    path = root / checkpoint_key(MODEL, LAST)
    for forged in (replace(state, staging=2), replace(state, versions=state.versions.with_version(replace(state.version(1), actor="eve")))):
        path.write_bytes(checkpoint.encode(forged))
        (problem,) = [problem for problem in found(root) if problem.key.startswith("models")]
        assert problem.key == checkpoint_key(MODEL, LAST)
        assert "the checkpoint was forged" in problem.what
    path.write_bytes(checkpoint.encode(replace(state, head="f" * 64)))
    assert {problem.key for problem in found(root)} == {checkpoint_key(MODEL, LAST)}
