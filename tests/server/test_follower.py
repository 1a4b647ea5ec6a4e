"""What is served follows the log, as far as versions load and memory allows, and nothing that is let go stays in memory."""

import contextlib
import gc
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from registry import bundle
from registry.location import create_registry, open_registry
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.route import Target
from registry.state import ModelState
from registry.watch import watch
from server import loader
from server.engine import Engine
from server.follower import Follower
from server.loaded_version import memory_bytes
from server.loader import Loader
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from tests import models
from tests.daemons import wait_until

MODEL = "scaled"
PHASES = [phase for phase in Phase if phase is not Phase.shrink]
COST = memory_bytes(len(models.scaled(2.0)))


class Followed:
    """A registry, what follows it, and the newest table installed."""

    def __init__(self, root: Path, *, memory_budget: int = 0) -> None:
        self.root = root
        self.registry = open_registry(str(root)) if root.exists() else create_registry(str(root))
        self.table = RoutingTable()
        self.gates: dict[bytes, threading.Event] = {}
        own = open_registry(str(root))
        self.loader = Loader(own, self._engine, memory_budget, self._install)
        self.follower = Follower(own, watch(str(root)), self.loader)

    def _install(self, table: RoutingTable) -> None:
        self.table = table

    def _engine(self, model: bytes) -> Engine:
        if model in self.gates:
            assert self.gates[model].wait(20)
        return OnnxEngine(model, threads=1)

    def model(self, name: str = MODEL) -> ServedModel:
        return self.table.models[name]

    def serves(self, *, name: str = MODEL, loaded: set[int] | None = None, production: int | None = None) -> None:
        """Return once the model is served like this."""

        def holds() -> bool:
            served = self.table.models.get(name)
            return (
                served is not None
                and (loaded is None or set(served.versions) == loaded)
                and (production is None or (served.stages.get(PRODUCTION) == production and served.ready))
            )

        wait_until(holds, f"{name} is not served so: {self.table.models.get(name)}")


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


def promote(registry: Registry, version: int, *, model: str = MODEL, to: str = PRODUCTION) -> None:
    registry.promote(model, version, to=to, actor="test", reason="test")


def register(registry: Registry, *factors: float, model: str = MODEL) -> None:
    for factor in factors:
        models.register_scaled(registry, model, factor)


def register_broken(registry: Registry, factor: float, *, model: str = MODEL) -> int:
    """A version whose golden rows are those of another model; returns its number."""
    files = registry.manifest(model, 1).files
    kept = {name: registry.blobs.get(files[name].sha256) for name in (bundle.SIGNATURE, bundle.GOLDEN)}
    return registry.register(model, {bundle.MODEL: models.scaled(factor), **kept}, {}, actor="test", reason="broken")


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


class Histories(RuleBasedStateMachine):
    """Promotions, routes, rollbacks and stages of good and bad versions in any order; after each, what is served is what the log says."""

    folder: Path
    made = 0

    @initialize()
    def start(self) -> None:
        Histories.made += 1
        self.followed = Followed(self.folder / str(Histories.made))
        register(self.followed.registry, 2.0, 3.0)
        self.bad = {register_broken(self.followed.registry, 8.0)}
        self.newest = 3
        self.followed.follower.start()

    @rule(good=st.booleans())
    def register_next(self, good: bool) -> None:  # noqa: FBT001 -- a rule
        self.newest += 1
        if good:
            register(self.followed.registry, float(self.newest))
        else:
            self.bad.add(register_broken(self.followed.registry, 9.0))

    @rule(data=st.data(), to=st.sampled_from([PRODUCTION, STAGING]))
    def promote_any(self, data: st.DataObject, to: str) -> None:
        self._attempt(lambda: promote(self.followed.registry, self._any(data), to=to))

    @rule(data=st.data(), weight=st.integers(1, 99))
    def route(self, data: st.DataObject, weight: int) -> None:
        stable, canary = self._any(data), self._any(data)
        shadows = tuple({self._any(data)} - {stable, canary})
        target = Target(stable, {stable: weight, canary: 100 - weight} if stable != canary else {}, shadows)
        self._attempt(lambda: self.followed.registry.route(MODEL, target, actor="test", reason="route"))

    @rule()
    def rollback(self) -> None:
        self._attempt(lambda: self.followed.registry.rollback(MODEL, actor="test", reason="back"))

    @invariant()
    def what_is_served_is_what_the_log_says(self) -> None:
        state = self.followed.registry.state(MODEL)
        with contextlib.suppress(AssertionError):  # said better by the next line
            wait_until(lambda: self._difference(state) == "", "", 10)
        assert self._difference(state) == ""

    def teardown(self) -> None:
        self.followed.follower.stop()

    def _difference(self, state: ModelState) -> str:
        served = self.followed.table.models.get(MODEL)
        if served is None or not self.followed.table.complete:
            return "not ready"
        asked = self._asked(state)
        if set(served.failures) != asked & self.bad:
            return f"{set(served.failures)} say why they are not loaded, of {asked} and {self.bad}"
        if not asked - self.bad <= set(served.versions) <= (asked | set(served.stages.values())) - self.bad:
            return f"{set(served.versions)} are loaded, {asked} asked for"
        if state.route is None:
            return "production is answered" if PRODUCTION in served.stages else ""
        if state.production in self.bad:
            approved = {route.stable for route in state.routes} - self.bad
            return "no earlier version answers" if approved and not served.ready else ""
        target = state.route.target
        split = {number: weight for number, weight in target.split.items() if number not in self.bad}
        split[target.stable] += 100 - sum(split.values())
        found = (served.stages.get(PRODUCTION), served.split or {target.stable: 100}, set(served.shadows))
        wanted = (target.stable, split, set(target.shadows) - self.bad)
        return "" if found == wanted else f"{found} answer instead of {wanted}"

    def _asked(self, state: ModelState) -> set[int]:
        routed = {number for route in (state.route, state.previous_route) if route for number in route.target.versions}
        return routed | ({state.staging} if state.staging else set())

    def _any(self, data: st.DataObject) -> int:
        return data.draw(st.integers(1, self.newest))

    def _attempt(self, change: Callable[[], object]) -> None:
        try:
            change()
        except Exception as error:  # noqa: BLE001 -- a rule of the registry
            assert type(error).__name__ == "RuleError", error


def test_after_any_history_what_is_served_is_what_the_log_says(tmp_path: Path) -> None:
    Histories.folder = tmp_path
    run_state_machine_as_test(
        Histories,
        settings=settings(max_examples=15, stateful_step_count=12, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck)),
    )
