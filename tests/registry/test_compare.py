"""Two versions side by side: what differs is named with both values, numbers with their difference."""

from typing import TYPE_CHECKING

from registry.compare import ADDED, CHANGED, REMOVED, SAME, Difference, compare
from registry.registry import Registry
from registry.views import comparison
from tests.registry.helpers import ACTOR, MODEL, bundle

if TYPE_CHECKING:
    from registry.canonical import JsonObject


def test_files_facts_and_decisions_are_compared(registry: Registry) -> None:
    first: JsonObject = {"algorithm": "logistic", "metrics": {"auc": 0.75, "brier": 0.2}, "seed": 7, "converged": True}
    second: JsonObject = {"algorithm": "boosting", "metrics": {"auc": 0.8125, "f1": 0.5}, "seed": 7, "converged": False}
    registry.register(MODEL, {**bundle("one"), "old.txt": b"x"}, first, actor=ACTOR, reason="first")
    registry.register(MODEL, {**bundle("two"), "new.txt": b"x"}, second, actor="ben", reason="second")
    registry.approve(MODEL, 2, actor="eve", reason="good")
    registry.promote(MODEL, 2, to="production", actor=ACTOR, reason="go")
    found = compare(registry.state(MODEL), registry.manifest(MODEL, 1), registry.manifest(MODEL, 2))
    facts = {item.name: item for item in found.facts}
    assert facts["metrics.auc"] == Difference("metrics.auc", 0.75, 0.8125, CHANGED, 0.0625)
    assert facts["metrics.brier"] == Difference("metrics.brier", 0.2, None, REMOVED)
    assert facts["metrics.f1"] == Difference("metrics.f1", None, 0.5, ADDED)
    assert facts["seed"] == Difference("seed", 7, 7, SAME)
    assert facts["converged"] == Difference("converged", first=True, second=False, change=CHANGED)
    assert {item.name: item.change for item in found.files} == {
        "model.onnx": CHANGED,
        "signature.json": SAME,
        "old.txt": REMOVED,
        "new.txt": ADDED,
    }
    decisions = {item.name: (item.first, item.second) for item in found.decisions}
    assert decisions["stage"] == (None, "production")
    assert decisions["approved by"] == ([], ["eve"])
    assert decisions["registered by"] == (ACTOR, "ben")
    shown = comparison(found)
    assert (shown["first"], shown["second"]) == (1, 2)


def test_a_version_does_not_differ_from_itself(registry: Registry) -> None:
    registry.register(MODEL, bundle(), {"auc": 0.5, "empty": {}}, actor=ACTOR, reason="only")
    found = compare(registry.state(MODEL), registry.manifest(MODEL, 1), registry.manifest(MODEL, 1))
    assert {item.change for item in (*found.files, *found.facts, *found.decisions)} == {SAME}
