"""What a person or a program is told about the registry: values as plain JSON. How it is printed, and who may ask, is decided elsewhere."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from registry.canonical import Json, JsonObject
from registry.commit import Commit
from registry.compare import Comparison
from registry.registry import Registry
from registry.route import Route
from registry.state import ModelState
from registry.sweep import Unused
from registry.times import format_time
from registry.verify import Report
from registry.version import Version


def models(registry: Registry) -> list[JsonObject]:
    """One line of facts for each model, by name."""
    return [
        {
            "model": state.model,
            "versions": len(state.versions),
            "production": state.production,
            "staging": state.staging,
            "updated": _time(state.updated),
        }
        for state in map(registry.state, registry.models())
    ]


def state(value: ModelState) -> JsonObject:
    """What the log of a model adds up to."""
    return {
        "model": value.model,
        "seq": value.seq,
        "head": value.head,
        "updated": _time(value.updated),
        "production": value.production,
        "staging": value.staging,
        "versions": [_version(value, version) for version in value.versions.values()],
        "routes": [_route(route) for route in value.routes],
    }


def version(registry: Registry, model: str, number: int) -> JsonObject:
    """One version with its files and facts.

    Raises:
        ModelUnknownError, VersionUnknownError: if it is not registered.
        CorruptError: if its manifest is missing or not the registered one.
    """
    known = registry.state(model)
    manifest = registry.manifest(model, number)
    files: Json = {name: {"sha256": file.sha256, "size": file.size} for name, file in manifest.files.items()}
    return {"model": model, **_version(known, known.version(number)), "files": files, "facts": manifest.facts}


def commit(entry: Commit) -> JsonObject:
    """One line of a log."""
    return {
        "seq": entry.seq,
        "time": format_time(entry.time),
        "kind": entry.kind.value,
        "actor": entry.change.actor,
        "reason": entry.change.reason,
        "payload": entry.payload,
        "digest": entry.digest,
    }


def comparison(value: Comparison) -> JsonObject:
    """Two versions side by side."""
    parts: dict[str, Json] = {what: [asdict(item) for item in getattr(value, what)] for what in ("files", "facts", "decisions")}
    return {"model": value.model, "first": value.first, "second": value.second, **parts}


def unused(items: Sequence[Unused]) -> list[JsonObject]:
    """What no commit refers to."""
    return [
        {"key": item.entry.key, "what": item.what, "bytes": item.entry.size, "modified": format_time(item.entry.modified)} for item in items
    ]


def report(value: Report) -> JsonObject:
    """What a verification found."""
    counts = {key: item for key, item in asdict(value).items() if isinstance(item, int)}
    return {"problems": [asdict(problem) for problem in value.problems], "leftovers": list(value.leftovers), **counts}


def _version(known: ModelState, value: Version) -> JsonObject:
    arm, percent = known.arm_of(value.number)
    return {
        "version": value.number,
        "stage": known.stage_of(value.number),
        "arm": arm,
        "percent": percent,
        "manifest": value.manifest,
        "registered": format_time(value.registered),
        "actor": value.actor,
        "reason": value.reason,
        "retired": value.retired is not None,
        "evidence": sorted(value.evidence),
        "approved_by": sorted(value.approvals),
        "signed_off": sorted(value.sign_offs),
        "overridden": sorted(value.overrides),
    }


def _route(route: Route) -> JsonObject:
    target = route.target
    return {
        "stable": target.stable,
        "split": {str(version): weight for version, weight in target.split.items()},
        "shadows": list(target.shadows),
        "seq": route.seq,
        "since": format_time(route.since),
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
