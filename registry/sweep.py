"""Removing what no commit refers to (`gc`): what writers that died left behind, and checkpoints that newer ones have made useless.

Nothing younger than an hour is touched, since its writer may be about to refer to it; and nothing is deleted where it stands. It is set
aside, the logs are read once more, and what a commit refers to by then is put back. The rest is deleted: at once on a disk, an hour and one
run later on an object store, which dates what it moves anew and cannot tell who relies on it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from registry import checkpoint, manifest
from registry.commit import Kind
from registry.errors import CorruptError, FormatError
from registry.names import (
    TRASH,
    blob_key,
    manifest_key,
    parse_blob_key,
    parse_checkpoint_key,
    parse_commit_key,
    parse_manifest_key,
    trash_key,
)
from registry.registry import Registry
from registry.store import Entry, get_one

GRACE = timedelta(hours=1)
_NEWEST_KEPT = 2
_SPACED_KEPT = 32 * checkpoint.EVERY
"""Of the older checkpoints one in 32 stays: looking into the past then replays some 4,000 commits at most."""


@dataclass(frozen=True)
class Unused:
    """Something no commit refers to."""

    entry: Entry
    what: str
    """`blob`, `manifest`, `unfinished`, `checkpoint`, `trash`"""


@dataclass(frozen=True)
class Swept:
    """What a sweep did: what it deleted, what it set aside for the next, what it put back."""

    deleted: tuple[Unused, ...]
    set_aside: tuple[Unused, ...]
    put_back: tuple[str, ...]


def unused(registry: Registry) -> tuple[Unused, ...]:
    """What a sweep would remove, by key; changes nothing.

    Raises:
        CorruptError, FormatError: if a log or a manifest cannot be read, and so nobody knows what it refers to.
        StoreError: if the storage refuses.
    """
    limit = registry.clock() - GRACE
    # Listed before the logs are read: what is not in the list is not removed, however the logs go on.
    entries = sorted(registry.store.entries(), key=lambda entry: entry.key)
    useless, wanted = _checkpoints(entries)
    used = _referred_to(registry, entries) | _groups(registry, wanted)
    found = ((entry, _kind(entry, used, useless)) for entry in entries if entry.modified < limit)
    return tuple(Unused(entry, what) for entry, what in found if what)


def sweep(registry: Registry, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Swept:
    """Remove what `unused` names; safe while others write, and when it is killed at any moment.

    Raises:
        CorruptError, FormatError, StoreError: as `unused`.
    """
    found = unused(registry)
    # First what an earlier run set aside, and did not live to finish.
    before = _empty_trash(registry, {})
    moved = {}
    for number, item in enumerate(found, 1):
        if item.what != "trash" and registry.store.move(item.entry, trash_key(item.entry.key)):
            moved[trash_key(item.entry.key)] = item
        progress(number, len(found))
    after = _empty_trash(registry, moved)
    return Swept(before.deleted + after.deleted, after.set_aside, before.put_back + after.put_back)


def _empty_trash(registry: Registry, known: Mapping[str, Unused]) -> Swept:
    entries = sorted(registry.store.entries(), key=lambda entry: entry.key)
    if not any(entry.key.startswith(TRASH) for entry in entries):
        return Swept((), (), ())
    limit, used = registry.clock() - GRACE, _referred_to(registry, entries) | _groups(registry, _checkpoints(entries)[1])
    deleted, waiting, put_back = [], [], []
    for entry in [entry for entry in entries if entry.key.startswith(TRASH)]:
        key = entry.key.removeprefix(TRASH)
        if key in used:
            if not registry.store.move(entry, key):  # its writer has put it again
                registry.store.delete(entry.key)
            put_back.append(key)
        elif entry.modified < limit:
            registry.store.delete(entry.key)
            deleted.append(known.get(entry.key, Unused(entry, "trash")))
        else:
            waiting.append(known.get(entry.key, Unused(entry, "trash")))
    return Swept(tuple(deleted), tuple(waiting), tuple(put_back))


def _referred_to(registry: Registry, entries: list[Entry]) -> set[str]:
    """The keys of all manifests and blobs that a commit names.

    Of every model of which there is a commit or a checkpoint, not only of those whose first commit can be read: a damaged log must not make
    what it refers to look unused.
    """
    newest: dict[str, int] = {}
    for entry in entries:
        if place := parse_commit_key(entry.key) or parse_checkpoint_key(entry.key):
            newest[place[0]] = max(place[1], newest.get(place[0], 0))
    return {key for model, seq in sorted(newest.items()) for key in _named_in(registry, model, seq)}


def _named_in(registry: Registry, model: str, newest: int) -> Iterator[str]:
    read = 0
    registry.state(model)  # refuses a log that does not fold, or has lost the commit of its checkpoint
    for entry in registry.log(model):
        read = entry.seq
        if entry.kind is Kind.EVIDENCE:
            yield blob_key(str(entry.payload["sha256"]))
        elif entry.kind is Kind.REGISTERED:
            key = manifest_key(model, int(str(entry.payload["version"])))
            yield key
            yield from _named_by(registry, key)
    if read < newest:
        raise CorruptError(f"the log of {model!r} cannot be read from commit {read + 1} on: nothing is removed; run verify")


def _named_by(registry: Registry, key: str) -> Iterator[str]:
    raw = get_one(registry.store, key) or get_one(registry.store, trash_key(key))
    try:
        files = manifest.parse(raw or b"").files
    except FormatError as error:
        raise CorruptError(f"{key} cannot be read, so nobody knows which files it names and nothing is removed: run verify") from error
    yield from (blob_key(file.sha256) for file in files.values())


def _kind(entry: Entry, used: set[str], useless: set[str]) -> str:
    """What an unused entry is; empty for what stays."""
    if entry.unfinished:
        return "unfinished"
    if entry.key.startswith(TRASH):
        return "trash"
    if entry.key in useless:
        return "checkpoint"
    if entry.key in used:
        return ""
    return "blob" if parse_blob_key(entry.key) else "manifest" if parse_manifest_key(entry.key) else ""


def _groups(registry: Registry, keys: set[str]) -> set[str]:
    """The keys of the groups of versions that checkpoints name. One that cannot be read is of no use to anybody, nor are its groups."""
    found: set[str] = set()
    for raw in registry.store.get(sorted(keys)):
        with suppress(FormatError):
            found.update(map(blob_key, checkpoint.parse(raw or b"").groups.values()))
    return found


def _checkpoints(entries: list[Entry]) -> tuple[set[str], set[str]]:
    """The keys of the checkpoints that newer ones replace, and of those that stay."""
    taken: dict[str, list[tuple[int, str]]] = {}
    for entry in entries:
        if place := parse_checkpoint_key(entry.key):
            taken.setdefault(place[0], []).append((place[1], entry.key))
    useless = {key for found in taken.values() for seq, key in sorted(found)[:-_NEWEST_KEPT] if seq % _SPACED_KEPT}
    return useless, {key for found in taken.values() for _, key in found} - useless
