"""Which versions are loaded and which answer, whatever the routes are and whatever fails to load."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from registry.names import PRODUCTION, STAGING
from registry.route import Route, Target
from registry.state import ModelState
from server import plan
from server.engine import Engine
from server.loaded_version import LoadedVersion
from server.onnx_engine import OnnxEngine
from server.plan import Part
from tests import models

ENGINE: Engine = OnnxEngine(models.scaled(2.0), threads=1)
NUMBERS = st.integers(1, 8)


def version(number: int) -> LoadedVersion:
    return LoadedVersion("m", number, "", ENGINE.signature, ENGINE, None, 0.0)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    numbers = draw(st.lists(NUMBERS, min_size=1, max_size=5, unique=True))
    answering = draw(st.integers(1, len(numbers)))
    weights = dict.fromkeys(numbers[:answering], 10)
    weights[numbers[0]] = 100 - 10 * (answering - 1)
    target = Target(numbers[0], weights, tuple(numbers[answering:]))
    target.check()
    return target


@st.composite
def states(draw: st.DrawFn) -> ModelState:
    routes = draw(st.lists(targets(), max_size=4))
    staging = draw(st.none() | NUMBERS)
    if routes and staging == routes[-1].stable:
        staging = None
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return ModelState("m", 1, "0" * 64, staging=staging, routes=tuple(Route(target, 1, moment) for target in routes))


@given(states(), st.sets(NUMBERS), st.sets(NUMBERS), st.fixed_dictionaries({}, optional={PRODUCTION: NUMBERS, STAGING: NUMBERS}))
def test_only_loaded_versions_answer_and_all_traffic_is_answered(
    state: ModelState, loaded: set[int], failing: set[int], before: dict[str, int]
) -> None:
    failed = failing - loaded
    served = plan.served(state, {number: version(number) for number in loaded}, failed, before, {})
    wanted = plan.wanted(state, loaded, failed, before)
    assert set(served.stages.values()) <= set(wanted), "what answers is kept"
    if served.split:
        assert sum(served.split.values()) == 100
        assert set(served.split) <= loaded
        assert served.stages[PRODUCTION] == state.production
    assert set(served.shadows) <= loaded - {served.stages.get(PRODUCTION)} - set(served.split)
    assert (PRODUCTION in served.stages) == (state.production is not None)
    if state.production in loaded:
        assert served.stages[PRODUCTION] == state.production
    elif before.get(PRODUCTION) in loaded and state.production is not None:
        assert served.stages[PRODUCTION] == before[PRODUCTION], "what answered goes on answering until the new version is loaded"
    if state.route and state.production in loaded and set(state.route.target.split) <= loaded:
        assert (served.split or {state.production: 100}) == state.route.target.split


@given(states(), st.sets(NUMBERS))
def test_loading_what_is_wanted_ends_with_production_answered_unless_every_earlier_version_fails(
    state: ModelState, failing: set[int]
) -> None:
    loaded: dict[int, LoadedVersion] = {}
    failed: dict[int, str] = {}
    stages: dict[str, int] = {}
    for _ in range(20):
        wanted = plan.wanted(state, loaded, failed, stages)
        loaded = {number: loaded[number] for number in loaded if number in wanted}
        todo = [number for number in wanted if number not in loaded and number not in failed]
        if not todo:
            break
        if todo[0] in failing:
            failed[todo[0]] = "broken"
        else:
            loaded[todo[0]] = version(todo[0])
        stages = dict(plan.served(state, loaded, failed, stages, {}).stages)
    assert not todo
    assert plan.settled(state, loaded, failed, stages)
    approved = [route.stable for route in reversed(state.routes)]
    good = [number for number in approved if number not in failing]
    if good:
        assert stages[PRODUCTION] == good[0], "the newest approved version that loads"
    assert set(plan.wanted(state, loaded, failed, stages)) >= set(state.route.target.versions if state.route else ())


@given(
    st.dictionaries(st.tuples(st.sampled_from("ab"), NUMBERS), st.tuples(st.sampled_from(Part), st.integers(0, 50)), max_size=10),
    st.integers(0, 200),
)
def test_memory_goes_to_production_first_and_is_never_given_twice(asked: dict[tuple[str, int], tuple[Part, int]], budget: int) -> None:
    parts = {key: part for key, (part, _) in asked.items()}
    costs = {key: cost for key, (_, cost) in asked.items()}
    refused = plan.refusals(parts, costs, budget)
    if not budget:
        assert refused == {}
        return
    assert all(parts[key] is not Part.STABLE for key in refused)
    given_ = {key: costs[key] for key in parts if key not in refused}
    stable = sum(cost for key, cost in given_.items() if parts[key] is Part.STABLE)
    assert sum(given_.values()) <= max(budget, stable)
    for key in refused:
        more_wanted = sum(cost for other, cost in given_.items() if parts[other] <= parts[key])
        assert more_wanted + costs[key] > budget, "nothing is refused that those wanted more, or as much, leave room for"
