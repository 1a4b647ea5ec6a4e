"""Whatever is done to a model in whatever order, what is served is what its log says."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from registry.names import PRODUCTION, STAGING
from registry.route import Target
from registry.state import ModelState
from tests.daemons import wait_until
from tests.server.followed import MODEL, Followed, promote, register, register_broken

PHASES = [phase for phase in Phase if phase is not Phase.shrink]


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
