"""Two versions of a model side by side: which files differ, which facts, and what was decided about each. Pure functions over manifests."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.canonical import Json
from registry.manifest import Manifest
from registry.state import ModelState
from registry.version import Version

SAME, CHANGED, ADDED, REMOVED = "same", "changed", "added", "removed"


@dataclass(frozen=True)
class Difference:
    """One thing that the first version has, the second, or both. `change` goes from the first to the second; for numbers `delta` too."""

    name: str
    first: Json
    second: Json
    change: str
    delta: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What differs between two versions, and what does not."""

    model: str
    first: int
    second: int
    files: tuple[Difference, ...]
    """by name, of their sha256"""
    facts: tuple[Difference, ...]
    """by path, `metrics.auc`: what the trainer stated"""
    decisions: tuple[Difference, ...]
    """stage, evidence, approvals, sign-offs, overrides, retirement"""


def compare(state: ModelState, first: Manifest, second: Manifest) -> Comparison:
    """Compare two versions of the model of `state`."""
    return Comparison(
        model=state.model,
        first=first.version,
        second=second.version,
        files=_differences({name: file.sha256 for name, file in first.files.items()}, {n: file.sha256 for n, file in second.files.items()}),
        facts=_differences(dict(_flat("", first.facts)), dict(_flat("", second.facts))),
        decisions=_differences(_decisions(state, first.version), _decisions(state, second.version)),
    )


def _differences(first: Mapping[str, Json], second: Mapping[str, Json]) -> tuple[Difference, ...]:
    return tuple(_difference(name, first, second) for name in sorted({*first, *second}))


def _difference(name: str, first: Mapping[str, Json], second: Mapping[str, Json]) -> Difference:
    before, after = first.get(name), second.get(name)
    if name not in second:
        return Difference(name, before, None, REMOVED)
    if name not in first:
        return Difference(name, None, after, ADDED)
    if before == after:
        return Difference(name, before, after, SAME)
    return Difference(name, before, after, CHANGED, _delta(before, after))


def _decisions(state: ModelState, number: int) -> dict[str, Json]:
    version = state.version(number)
    return {
        "stage": state.stage_of(number) or None,
        "approved by": sorted(version.approvals),
        "evidence": sorted(version.evidence),
        "signed off": sorted(version.sign_offs),
        "overridden": sorted(version.overrides),
        "retired": version.retired is not None,
        **_registered(version),
    }


def _registered(version: Version) -> dict[str, Json]:
    return {"registered by": version.actor, "reason": version.reason}


def _flat(path: str, value: Json) -> list[tuple[str, Json]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, item in value.items() for leaf in _flat(f"{path}.{key}" if path else key, item)]
    return [(path, value)] if path else []


def _delta(before: Json, after: Json) -> float | None:
    if isinstance(before, bool) or isinstance(after, bool) or not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return None
    return after - before
