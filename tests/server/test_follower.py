"""What is served follows the log, as far as versions load and memory allows, and nothing that is let go stays in memory."""

import gc
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from registry import bundle
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.route import Target
from server import loader
from server.loaded_version import memory_bytes
from tests import models
from tests.daemons import wait_until
from tests.server.followed import MODEL, Followed, promote, register, register_broken

COST = memory_bytes(len(models.scaled(2.0)))


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., Followed]]:
    """Start following the registry in tmp_path, once or again."""
    running: list[Followed] = []

    def start(fill: Callable[[Registry], object] = lambda _: None, **options: Any) -> Followed:
        while running:
            running.pop().follower.stop()
        followed = Followed(tmp_path / "registry", **options)
        fill(followed.registry)
        followed.follower.start()
        running.append(followed)
        return followed

    yield start
    for followed in running:
        followed.follower.stop()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "RETRY_SECONDS", 0.1)


def damage(root: Path, registry: Registry, version: int) -> Path:
    """Change the model of a registered version on the disk; returns where it is."""
    digest = registry.manifest(MODEL, version).file(bundle.MODEL).sha256
    path = root / "blobs" / "sha256" / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return path


def test_all_that_a_route_a_stage_and_a_rollback_need_is_loaded(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, *(float(factor) for factor in range(2, 9)))
        registry.route(MODEL, Target(1, {1: 90, 2: 10}, (3,)), actor="test", reason="first")
        registry.route(MODEL, Target(4, {4: 75, 5: 25}, (2, 3)), actor="test", reason="second")
        promote(registry, 6, to=STAGING)

    followed = follow(fill)
    followed.serves(loaded={1, 2, 3, 4, 5, 6}, production=4)
    served = followed.model()
    assert dict(served.stages) == {PRODUCTION: 4, STAGING: 6}
    assert (dict(served.split), served.shadows, served.registered) == ({4: 75, 5: 25}, (2, 3), (1, 2, 3, 4, 5, 6, 7))
    followed.registry.rollback(MODEL, actor="test", reason="back")
    followed.serves(loaded={1, 2, 3, 6}, production=1)
    assert (dict(followed.model().split), followed.model().shadows) == ({1: 90, 2: 10}, (3,))


def test_canary_that_does_not_load_gives_its_share_to_the_stable_version_and_says_why(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0, 3.0)
        bad = register_broken(registry, 9.0)
        registry.route(MODEL, Target(1, {1: 50, 2: 20, bad: 30}, ()), actor="test", reason="canaries")

    followed = follow(fill)
    followed.serves(loaded={1, 2}, production=1)
    wait_until(lambda: 3 in followed.model().failures, "the failure is not in the table")
    assert dict(followed.model().split) == {1: 80, 2: 20}
    assert "golden rows" in followed.model().failures[3]


@pytest.mark.usefixtures("_impatient")
def test_stable_version_that_no_longer_loads_at_a_restart_is_replaced_by_the_newest_approved_one_that_does(
    follow: Callable[..., Followed],
) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0, 3.0, 4.0, 5.0)
        for version in (1, 2, 3, 4):
            promote(registry, version)

    followed = follow(fill)
    followed.serves(loaded={3, 4}, production=4)
    places = [damage(followed.root, followed.registry, version) for version in (3, 4)]
    with capture_logs() as logs:
        followed = follow()
        followed.serves(production=2)
        wait_until(lambda: followed.table.complete, "not complete")
    assert dict(followed.loader.fallbacks()) == {MODEL: 2}
    assert "corrupt" in followed.model().failures[4]
    assert [entry["stable"] for entry in logs if entry["event"].startswith("an earlier version answers")] == [4]
    for place, factor in zip(places, (4.0, 5.0), strict=True):
        place.write_bytes(models.scaled(factor))
    wait_until(lambda: _retried(followed), "not tried again")
    followed.serves(loaded={3, 4}, production=4)
    assert dict(followed.loader.fallbacks()) == {}
    assert dict(followed.model().failures) == {}


def test_fallback_is_found_however_many_earlier_versions_fail(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0)
        promote(registry, 1)
        for factor in (9.0, 10.0, 11.0, 12.0):
            promote(registry, register_broken(registry, factor))

    followed = follow(fill)
    followed.serves(production=1)
    assert set(followed.model().failures) == {4, 5}, "the others are not asked for"


def test_version_that_fails_after_a_while_is_tried_again_as_often_as_is_said(
    follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "RETRY_SECONDS", 0.5)
    followed = Followed(follow().root)
    followed.seconds = 0.1
    register(followed.registry, 2.0)
    promote(followed.registry, register_broken(followed.registry, 9.0))
    followed.follower.start()
    try:
        time.sleep(3.2)
        assert 4 <= followed.loader.failures()[MODEL, 2] <= 6
    finally:
        followed.follower.stop()


def _failures(followed: Followed) -> int:
    followed.loader.retry()
    return followed.loader.failures().get((MODEL, 2), 0)


def _retried(followed: Followed) -> bool:
    followed.loader.retry()
    return set(followed.model().versions) == {3, 4}


@pytest.mark.usefixtures("_impatient")
def test_failure_is_counted_each_time_and_told_once(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0)
        promote(registry, 1)
        promote(registry, register_broken(registry, 9.0))

    with capture_logs() as logs:
        followed = follow(fill)
        followed.serves(production=1)
        wait_until(lambda: _failures(followed) > 3, "not tried again")
        followed.follower.stop()
    assert [entry["version"] for entry in logs if entry["event"] == "version not servable"] == [2]


def test_one_broken_log_and_one_slow_model_hold_up_no_other(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        for name in ("a-broken", "b-slow", "c-good"):
            register(registry, 2.0, 3.0, model=name)
            promote(registry, 1, model=name)
        register(registry, 7.0, model="b-slow")

    followed = follow(fill)
    for name in ("a-broken", "b-slow", "c-good"):
        followed.serves(name=name, production=1)
    log = followed.root / "models" / "a-broken" / "log"
    newest = max(log.iterdir())
    newest.chmod(0o644)
    newest.write_bytes(b"{}")
    followed.gates[models.scaled(7.0)] = gate = threading.Event()
    promote(followed.registry, 3, model="b-slow")
    promote(followed.registry, 2, model="c-good")
    followed.serves(name="c-good", production=2)
    followed.registry.rollback("c-good", actor="test", reason="back")
    followed.serves(name="c-good", production=1)
    assert followed.model("b-slow").stages[PRODUCTION] == 1
    gate.set()
    followed.serves(name="b-slow", production=3)
    assert followed.model("a-broken").ready


def test_model_or_registry_that_goes_away_is_served_on_and_told_once(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        for name in ("gone", "here"):
            register(registry, 2.0, model=name)
            promote(registry, 1, model=name)

    with capture_logs() as logs:
        followed = follow(fill)
        followed.serves(name="here", production=1)
        shutil.rmtree(followed.root / "models" / "gone")
        register(followed.registry, 3.0, model="here")
        promote(followed.registry, 2, model="here")
        followed.serves(name="here", production=2)
        assert followed.model("gone").ready
        lifecycle = followed.follower.lifecycle()
        assert lifecycle.reachable
        followed.root.rename(followed.root.with_name("elsewhere"))
        wait_until(lambda: not followed.follower.lifecycle().reachable, "still reachable")
        assert followed.follower.lifecycle().age_seconds > lifecycle.age_seconds, "what was not read to its end does not make it young"
    assert [entry["model"] for entry in logs if entry["event"].startswith("model unreadable")] == ["gone"]
    assert followed.model("here").ready


def test_memory_is_given_to_production_first_and_the_version_kept_for_rollback_goes_first(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, *(float(factor) for factor in range(2, 7)))
        promote(registry, 1)

    followed = follow(fill, memory_budget=3 * COST)
    followed.serves(loaded={1}, production=1)
    promote(followed.registry, 2)
    followed.serves(loaded={1, 2}, production=2)
    followed.registry.route(MODEL, Target(2, {2: 90, 3: 10}, (4,)), actor="test", reason="three of them fit")
    followed.serves(loaded={2, 3, 4}, production=2)
    promote(followed.registry, 5, to=STAGING)
    followed.serves(loaded={2, 3, 5}, production=2)
    assert "as shadow it would take about" in followed.model().failures[4]
    assert dict(followed.model().split) == {2: 90, 3: 10}
    promote(followed.registry, 1)
    followed.serves(loaded={1, 2, 5}, production=1)


def test_production_is_loaded_even_if_it_exceeds_the_budget_and_that_is_said(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0, 3.0)
        promote(registry, 1)
        promote(registry, 2)

    with capture_logs() as logs:
        followed = follow(fill, memory_budget=1)
        followed.serves(loaded={2}, production=2)
        promote(followed.registry, 1)
        followed.serves(loaded={1}, production=1)
    assert any("exceed the memory budget" in entry["event"] for entry in logs)


def test_version_that_lost_its_memory_while_it_waited_is_not_loaded(follow: Callable[..., Followed]) -> None:
    followed = Followed(follow().root, memory_budget=11 * COST // 2)
    slow, canary = {"a": 8.0, "b": 9.0}, models.scaled(7.0)
    for name, factor in {**slow, "c": 7.0}.items():
        register(followed.registry, 2.0, factor, model=name)
    gate = threading.Event()
    followed.gates |= {models.scaled(factor): gate for factor in slow.values()}
    promote(followed.registry, 1, model="c")
    followed.follower.start()
    try:
        followed.serves(name="c", production=1)
        for name in slow:
            promote(followed.registry, 2, model=name)
        wait_until(lambda: len(followed.loads) == 1 + len(slow), "not being loaded")
        followed.registry.route("c", Target(1, {1: 90, 2: 10}), actor="test", reason="waits behind the slow ones")
        for name in slow:
            promote(followed.registry, 1, model=name, to=STAGING)
        wait_until(lambda: 2 in followed.model("c").failures, "it has its memory still")
    finally:
        gate.set()
    for name in slow:
        followed.serves(name=name, loaded={1, 2}, production=2)
    followed.follower.stop()
    assert canary not in followed.loads


def test_memory_of_a_fallback_is_counted_too(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0)
        promote(registry, 1)
        for factor in (9.0, 10.0, 11.0):
            promote(registry, register_broken(registry, factor))
        register(registry, 5.0)
        promote(registry, 5, to=STAGING)

    followed = follow(fill, memory_budget=5 * COST // 2)
    followed.serves(loaded={1}, production=1)
    assert "as staging it would take" in followed.model().failures[5]


def test_version_that_is_let_go_leaves_nothing_in_memory(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0, 3.0, 4.0)
        promote(registry, 1)

    followed = follow(fill)
    followed.serves(production=1)
    version = followed.model().versions[1]
    held: list[weakref.ref[Any]] = [weakref.ref(version), weakref.ref(version.engine)]
    del version
    for number in (2, 3):
        promote(followed.registry, number)
        followed.serves(production=number)
    followed.serves(loaded={2, 3})
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_server_is_ready_when_every_model_can_answer_or_never_will(follow: Callable[..., Followed]) -> None:
    def fill(registry: Registry) -> None:
        register(registry, 2.0, model="slow")
        promote(registry, 1, model="slow")
        register(registry, 3.0, model="broken")
        promote(registry, register_broken(registry, 9.0, model="broken"), model="broken")
        register(registry, 4.0, model="unused")

    followed = Followed(follow().root)
    followed.gates[models.scaled(2.0)] = gate = threading.Event()
    fill(followed.registry)
    followed.follower.start()
    try:
        wait_until(lambda: "broken" in followed.table.models and 2 in followed.model("broken").failures, "broken is not told")
        assert not followed.table.complete
        gate.set()
        wait_until(lambda: followed.table.complete, "not ready")
        assert followed.model("slow").ready
    finally:
        gate.set()
        followed.follower.stop()


def test_version_that_is_loaded_answers_though_the_others_take_long_to_load(follow: Callable[..., Followed]) -> None:
    followed = Followed(follow().root)
    gate = threading.Event()
    for name, factor in {"a": 2.0, "b": 3.0, "c": 4.0, "d": 5.0}.items():
        register(followed.registry, factor, model=name)
        promote(followed.registry, 1, model=name)
        if name != "a":
            followed.gates[models.scaled(factor)] = gate
    followed.follower.start()
    try:
        followed.serves(name="a", production=1)
        assert not followed.table.complete
    finally:
        gate.set()
        followed.follower.stop()
