"""The fold is a pure function of the log, and the rules decide what may follow."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import rules
from registry.canonical import JsonObject
from registry.commit import Change, Commit, Kind, at_place
from registry.errors import FormatError, RegistryError, RuleError, VersionUnknownError
from registry.state import ModelState, fold

START = datetime(2026, 1, 1, tzinfo=UTC)


def change(kind: Kind, **payload: int | str) -> Change:
    return Change(kind, payload, "ana", "why")


def legal_log(wishes: list[Change]) -> list[Commit]:
    """Those of `wishes` the rules allow, each at its place."""
    log: list[Commit] = []
    state = ModelState("m")
    for wish in wishes:
        try:
            rules.check(state, wish)
        except RegistryError:
            continue
        time = START + timedelta(seconds=len(log))
        log.append(at_place(wish, model="m", seq=state.seq + 1, previous=state.head, time=time))
        state = fold(state, log[-1:])
    return log


numbers = st.integers(1, 2)
wishes = st.lists(
    st.one_of(
        numbers.map(lambda n: change(Kind.REGISTERED, version=n, manifest="a" * 64)),
        numbers.map(lambda n: change(Kind.STAGED, stage="staging", version=n)),
        numbers.map(lambda n: change(Kind.ROUTED, stable=n)),
        numbers.map(lambda n: change(Kind.ROLLED_BACK, stable=n)),
    ),
    max_size=40,
)


@given(wishes, st.integers(0, 40))
def test_a_log_folds_to_the_same_state_however_it_is_cut(asked: list[Change], cut: int) -> None:
    log = legal_log(asked)
    half = fold(ModelState("m"), log[:cut])
    assert fold(half, log[cut:]) == fold(ModelState("m"), log)
    assert half == fold(ModelState("m"), log[:cut])


@given(wishes)
def test_whatever_the_rules_allow_leaves_a_state_that_makes_sense(asked: list[Change]) -> None:
    state = ModelState("m")
    for entry in legal_log(asked):
        state = fold(state, [entry])
        assert state.production is None or state.production in state.versions
        assert state.staging is None or state.staging in state.versions
        assert state.staging is None or state.staging != state.production
        assert [route.seq for route in state.routes] == sorted({route.seq for route in state.routes})


def test_a_commit_out_of_place_is_refused_by_the_fold() -> None:
    log = legal_log([change(Kind.REGISTERED, version=n, manifest="a" * 64) for n in (1, 2, 3)])
    for broken in ([log[1]], [log[0], log[2]], [log[0], log[0]], [log[1], log[0]]):
        with pytest.raises(FormatError, match="run verify"):
            fold(ModelState("m"), broken)
    with pytest.raises(FormatError, match="run verify"):
        fold(ModelState("other"), log)
    forked = at_place(change(Kind.ROUTED, stable=1), model="m", seq=2, previous="b" * 64, time=START)
    with pytest.raises(FormatError, match="run verify"):
        fold(ModelState("m"), [log[0], forked])


@pytest.mark.parametrize(("kind", "payload"), [(Kind.REGISTERED, {"version": 1}), (Kind.STAGED, {}), (Kind.ROUTED, {"stable": "1"})])
def test_a_payload_that_is_not_what_its_kind_says_is_refused_by_the_fold(kind: Kind, payload: JsonObject) -> None:
    entry = at_place(Change(kind, payload, "ana", "why"), model="m", seq=1, previous=None, time=START)
    with pytest.raises(FormatError, match="malformed payload"):
        fold(ModelState("m"), [entry])


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (change(Kind.REGISTERED, version=1, manifest="a" * 64), RuleError, "already registered"),
        (change(Kind.REGISTERED, version=0), RuleError, "a version number"),
        (change(Kind.ROUTED, stable=9), VersionUnknownError, "no version 9; registered: 1, 2, 3"),
        (change(Kind.ROUTED, stable=2), RuleError, "already in production"),
        (change(Kind.ROUTED, stable="2"), RuleError, "a version number"),
        (change(Kind.STAGED, stage="staging", version=3), RuleError, "already in staging"),
        (change(Kind.STAGED, stage="staging", version=2), RuleError, "already in production"),
        (change(Kind.ROLLED_BACK, stable=3), RuleError, "returns to version 1, nothing else"),
        (Change(Kind.ROUTED, {"stable": 3}, " ", "why"), RuleError, "say the actor"),
        (Change(Kind.ROUTED, {"stable": 3}, "ana", "\n"), RuleError, "say the reason"),
        (Change(Kind.ROUTED, {"stable": 3}, "ana", "x" * 1001), RuleError, "at most 1000"),
    ],
)
def test_a_rule_says_what_it_forbids(asked: Change, error: type[RegistryError], says: str) -> None:
    log = legal_log(
        [change(Kind.REGISTERED, version=n, manifest="a" * 64) for n in (1, 2, 3)]
        + [change(Kind.ROUTED, stable=1), change(Kind.ROUTED, stable=2), change(Kind.STAGED, stage="staging", version=3)]
    )
    with pytest.raises(error, match=re.escape(says)):
        rules.check(fold(ModelState("m"), log), asked)


def test_a_version_that_comes_back_to_production_by_a_rollback_leaves_staging() -> None:
    log = legal_log(
        [change(Kind.REGISTERED, version=n, manifest="a" * 64) for n in (1, 2)]
        + [change(Kind.ROUTED, stable=1), change(Kind.ROUTED, stable=2)]
        + [change(Kind.STAGED, stage="staging", version=1), change(Kind.ROLLED_BACK, stable=1)]
    )
    assert len(log) == 6
    state = fold(ModelState("m"), log)
    assert (state.production, state.staging) == (1, None)


def test_there_is_nothing_to_roll_back_to_before_the_second_route() -> None:
    log = legal_log([change(Kind.REGISTERED, version=1, manifest="a" * 64), change(Kind.ROUTED, stable=1)])
    with pytest.raises(RuleError, match="no earlier production route"):
        rules.check(fold(ModelState("m"), log), change(Kind.ROLLED_BACK, stable=1))
