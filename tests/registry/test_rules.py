"""What may follow what: every kind of change, allowed and refused, each refusal with the reason."""

from collections.abc import Callable

import pytest

from registry.canonical import JsonObject
from registry.commit import Change, Kind
from registry.errors import RegistryError, RuleError, VersionUnknownError
from registry.registry import Registry, spoken_of
from registry.route import Target
from registry.rules import MAX_PAYLOAD, check
from registry.state import ROUTES_KEPT
from tests.registry.helpers import ACTOR, MODEL, register

Act = Callable[[Registry], object]


def by(act: Callable[..., object], *arguments: object) -> None:
    act(MODEL, *arguments, actor=ACTOR, reason="because")


@pytest.fixture
def used(registry: Registry) -> Registry:
    """Five versions: 1 answered, 2 answers with canary 3 and shadow 4, 5 is staged."""
    register(registry, 5)
    by(registry.route, Target(1))
    by(registry.route, Target(2, {2: 90, 3: 10}, (4,)))
    registry.promote(MODEL, 5, to="staging", actor=ACTOR, reason="because")
    return registry


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda it: by(it.retire, 1), "what a rollback would return to"),
        (lambda it: by(it.retire, 2), "part of the production route"),
        (lambda it: by(it.retire, 3), "part of the production route"),
        (lambda it: by(it.retire, 4), "part of the production route"),
        (lambda it: by(it.retire, 5), "is in staging"),
        (lambda it: by(it.retire, 6), "has no version 6"),
        (lambda it: by(it.route, Target(2, {2: 90, 3: 10}, (4,))), "these versions of .* are already in production"),
        (lambda it: by(it.route, Target(2, {2: 90, 3: 20})), "add up to 110"),
        (lambda it: by(it.route, Target(2, {2: 100, 3: 0})), "each at least 1"),
        (lambda it: by(it.route, Target(2, {3: 100})), "has no weight for version 2"),
        (lambda it: by(it.route, Target(2, {2: 50, 3: 50}, (3,))), "cannot shadow as well"),
        (lambda it: by(it.route, Target(1, {}, (3, 3))), "nor one shadow twice"),
        (lambda it: by(it.route, Target(7)), "has no version 7"),
        (lambda it: by(it.route, Target(1, {}, (7,))), "has no version 7"),
        (lambda it: by(it.sign_off, 1, "Not A Name"), "item name 'Not A Name' is not allowed"),
        (lambda it: by(it.override, 1, "../x"), r"gate name '\.\./x' is not allowed"),
        (lambda it: by(it.attach, 1, "/etc/passwd", b""), "name name '/etc/passwd' is not allowed"),
        (lambda it: by(it.attach, 9, "x", b""), "has no version 9"),
        (lambda it: by(it.note, 9), "has no version 9"),
        (lambda it: it.note(MODEL, actor=ACTOR, reason=" "), "say the reason"),
        (lambda it: it.note(MODEL, actor="", reason="x"), "say the actor"),
        (lambda it: it.note(MODEL, actor="a" * 1001, reason="x"), "1001 characters long; at most 1000"),
    ],
)
def test_what_may_not_follow_is_refused_with_the_reason_and_nothing_is_written(used: Registry, act: Act, says: str) -> None:
    before = used.state(MODEL)
    with pytest.raises(RegistryError, match=says):
        act(used)
    assert used.state(MODEL) == before


def test_a_retired_version_is_neither_staged_nor_routed_nor_approved_nor_retired_again(registry: Registry) -> None:
    register(registry, 3)
    by(registry.retire, 2)
    acts: list[Act] = [
        lambda it: it.promote(MODEL, 2, to="staging", actor=ACTOR, reason="x"),
        lambda it: it.promote(MODEL, 2, to="production", actor=ACTOR, reason="x"),
        lambda it: by(it.route, Target(1, {1: 50, 2: 50})),
        lambda it: by(it.route, Target(1, {}, (2,))),
        lambda it: by(it.approve, 2),
        lambda it: by(it.retire, 2),
    ]
    for act in acts:
        with pytest.raises(RuleError, match="was retired with commit 4"):
            act(registry)
    by(registry.attach, 2, "post-mortem.md", b"why it was retired")
    by(registry.note, 2)


def test_a_rollback_to_a_route_with_a_retired_version_is_refused(registry: Registry) -> None:
    register(registry, 3)
    for version in (1, 2, 3):
        by(registry.route, Target(version))
    by(registry.retire, 1)
    by(registry.rollback)
    with pytest.raises(RuleError, match="was retired"):
        by(registry.rollback)


def test_one_actor_approves_a_version_once_and_others_too(registry: Registry) -> None:
    register(registry, 2)
    by(registry.approve, 1)
    with pytest.raises(RuleError, match=r"has approved version 1 .* already, with commit 3"):
        by(registry.approve, 1)
    registry.approve(MODEL, 1, actor="ben", reason="looks good")
    by(registry.approve, 2)
    assert sorted(registry.state(MODEL).version(1).approvals) == [ACTOR, "ben"]


def test_the_newest_evidence_of_a_name_counts_and_the_older_stays_in_the_log(registry: Registry) -> None:
    register(registry)
    by(registry.attach, 1, "load.json", b"first")
    by(registry.attach, 1, "load.json", b"second")
    assert registry.evidence(MODEL, 1, "load.json") == b"second"
    old = str(registry.logs.commit(MODEL, 2).payload["sha256"])
    assert registry.blobs.get(old) == b"first"
    with pytest.raises(RegistryError, match=r"has no evidence 'other'; it has load\.json"):
        registry.evidence(MODEL, 1, "other")


def test_the_history_of_a_version_is_what_speaks_of_it(used: Registry) -> None:
    kinds = [entry.kind.value for entry in used.history(MODEL, 3)]
    assert kinds == ["registered", "routed"]
    assert [entry.kind.value for entry in used.history(MODEL, 4)] == ["registered", "routed"]
    assert spoken_of(used.logs.commit(MODEL, 7)) == {2, 3, 4}
    with pytest.raises(VersionUnknownError):
        used.history(MODEL, 9)


def test_a_route_of_several_versions_comes_back_exactly_after_a_rollback(used: Registry) -> None:
    before = used.state(MODEL).routes
    by(used.route, Target(1, {1: 99, 5: 1}))
    by(used.rollback)
    assert used.state(MODEL).routes == before
    assert used.state(MODEL).route is not None
    assert used.state(MODEL).stage_of(2) == "production"


def test_as_many_rollbacks_in_a_row_as_routes_are_kept(registry: Registry) -> None:
    register(registry, 2)
    for number in range(ROUTES_KEPT + 5):
        by(registry.route, Target(1 + number % 2))
    assert len(registry.state(MODEL).routes) == ROUTES_KEPT
    for _ in range(ROUTES_KEPT - 1):
        by(registry.rollback)
    with pytest.raises(RuleError, match="no earlier production route"):
        by(registry.rollback)


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        (Kind.EVIDENCE, {"version": 1, "name": "x"}, "needs sha256"),
        (Kind.EVIDENCE, {"version": 1, "name": "x", "sha256": "a" * 64}, "needs size"),
        (Kind.EVIDENCE, {"version": 1, "name": "x", "sha256": "a" * 64, "size": True}, "needs size"),
        (Kind.EVIDENCE, {"version": 1}, "needs name"),
        (Kind.SIGNED_OFF, {"version": 1, "item": 7}, "needs item"),
        (Kind.OVERRIDDEN, {"version": 1}, "needs gate"),
        (Kind.STAGED, {"version": 1, "stage": "production"}, "staged to 'staging', nothing else"),
        (Kind.ROUTED, {"stable": 1, "split": {"1": 50, "01": 50}}, "is no version number"),
        (Kind.ROUTED, {"stable": 1, "split": {"1": "100"}}, "needs a route"),
        (Kind.ROUTED, {"stable": 1, "split": []}, "needs a route"),
        (Kind.ROUTED, {"stable": 1, "shadows": ["2"]}, "needs a route"),
        (Kind.ROUTED, {}, "needs stable"),
        (Kind.APPROVED, {"version": "1"}, "needs version"),
        (Kind.RETIRED, {}, "needs version"),
        (Kind.NOTED, {"version": 0}, "needs version"),
        (Kind.NOTED, {"text": "x" * MAX_PAYLOAD}, "at most 65536 bytes"),
    ],
)
def test_a_payload_that_does_not_fit_its_kind_is_refused(registry: Registry, kind: Kind, payload: JsonObject, says: str) -> None:
    register(registry)
    with pytest.raises(RuleError, match=says):
        check(registry.state(MODEL), Change(kind, payload, ACTOR, "why"))
