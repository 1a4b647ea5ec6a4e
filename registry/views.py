"""What a person or a program is told about the registry: values as plain JSON. How it is printed, and who may ask, is decided elsewhere."""

from dataclasses import asdict
from datetime import datetime

from registry.canonical import Json, JsonObject
from registry.commit import Commit, format_time
from registry.registry import Registry
from registry.state import ModelState, Version
from registry.verify import Report


def models(registry: Registry) -> list[JsonObject]:
    """One line of facts for each model, by name."""
    states = [registry.state(name) for name in registry.models()]
    return [
        {
            "model": state.model,
            "versions": len(state.versions),
            "production": state.production,
            "staging": state.staging,
            "updated": _time(state.updated),
        }
        for state in states
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
        "routes": [{"stable": route.stable, "seq": route.seq, "since": format_time(route.since)} for route in value.routes],
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


def report(value: Report) -> JsonObject:
    """What a verification found."""
    counts = {key: item for key, item in asdict(value).items() if isinstance(item, int)}
    return {"problems": [asdict(problem) for problem in value.problems], "leftovers": list(value.leftovers), **counts}


def _version(known: ModelState, value: Version) -> JsonObject:
    return {
        "version": value.number,
        "stage": known.stage_of(value.number),
        "manifest": value.manifest,
        "registered": format_time(value.registered),
        "actor": value.actor,
        "reason": value.reason,
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
