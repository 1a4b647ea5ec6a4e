"""The operations of the registry, on any store. Every change is one commit: check the rule, put if absent, or read again and retry."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from registry import bundle, canonical, commit, manifest, rules
from registry.canonical import JsonObject
from registry.commit import Change, Commit, Kind
from registry.errors import ConflictError, CorruptError, ModelUnknownError, NotARegistryError, RuleError, StoreError
from registry.local_store import create_folder, open_folder
from registry.manifest import File, Manifest
from registry.names import MARKER, PRODUCTION, blob_key, check_name, check_stage, commit_key, manifest_key, parse_commit_key
from registry.state import ModelState, fold
from registry.store import Store

Content: TypeAlias = bytes | Path
Decide: TypeAlias = Callable[[ModelState], Change]

MAX_ATTEMPTS = 100
_CHUNK = 1 << 20
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Registry:
    """All models under one root.

    A state once read is kept: a later read folds only the commits that came since. Instances share nothing; safe for use from one
    thread at a time.
    """

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._states: dict[str, ModelState] = {}

    @property
    def store(self) -> Store:
        """The storage below, for what looks at it as a whole (`verify`)."""
        return self._store

    def models(self) -> list[str]:
        """The names of all models with at least one commit, sorted.

        Raises:
            NotARegistryError: if the registry that was opened is gone.
        """
        if self._store.get(MARKER) is None:
            raise NotARegistryError(f"the registry has no {MARKER} any more: was it deleted or moved?")
        places = (parse_commit_key(key) for key in self._store.list("models/"))
        return sorted({place[0] for place in places if place})

    def log(self, model: str, after: int = 0) -> Iterator[Commit]:
        """The commits of a model with a number above `after`, in order.

        Raises:
            FormatError: at an entry that is not a commit.
        """
        seq = after + 1
        while (raw := self._store.get(commit_key(model, seq))) is not None:
            yield commit.parse(raw)
            seq += 1

    def state(self, model: str) -> ModelState:
        """The present state of a model.

        Raises:
            ModelUnknownError: if it has no commit.
        """
        state = self._refreshed(model)
        if state.seq == 0:
            known = ", ".join(self.models()) or "none"
            raise ModelUnknownError(f"no model {model!r} in the registry; known: {known}")
        return state

    def state_at(self, model: str, time: datetime) -> ModelState:
        """The state as it was at `time`: the fold of the log before its first commit that is later.

        Raises:
            ModelUnknownError: if the model has no commit at all.
        """
        self.state(model)
        return fold(ModelState(model), takewhile(lambda entry: entry.time <= time, self.log(model)))

    def manifest(self, model: str, version: int) -> Manifest:
        """The manifest of a registered version, checked against the digest its commit recorded.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
            CorruptError: if it is missing or its bytes differ from those registered.
        """
        expected = self.state(model).version(version).manifest
        raw = self._store.get(manifest_key(model, version))
        if raw is None or canonical.digest(raw) != expected:
            raise CorruptError(
                f"the manifest of version {version} of {model!r} is {'missing' if raw is None else 'not the registered one'}: run verify"
            )
        return manifest.parse(raw)

    def read(self, model: str, version: int, name: str) -> bytes:
        """The bytes of one file of a bundle, hashed as they were read.

        Raises:
            NotFoundError: if the version or the file is not registered.
            CorruptError: if the file is missing from the store or its bytes differ from those registered.
        """
        return self.blob(self.manifest(model, version).file(name).sha256)

    def blob(self, digest: str) -> bytes:
        """The bytes with this sha256.

        Raises:
            CorruptError: if they are missing or differ.
        """
        raw = self._store.get(blob_key(digest))
        if raw is None or canonical.digest(raw) != digest:
            raise CorruptError(f"blob {digest} is {'missing' if raw is None else 'corrupt'}: run verify")
        return raw

    def register(self, model: str, files: Mapping[str, Content], facts: JsonObject, *, actor: str, reason: str) -> int:
        """Store a bundle and commit it as the next version; returns the version number.

        Blobs first, then the manifest, then the commit: a crash in between leaves files that nothing refers to, never half a version.

        Raises:
            InvalidNameError: for a model or file name that is not allowed.
            RuleError: if a required file is missing.
            StoreError, ConflictError: if the storage refuses, or others kept registering.
        """
        check_name(model)
        for name in files:
            check_name(name, "file")
        if missing := [name for name in bundle.REQUIRED if name not in files]:
            raise RuleError(f"a bundle needs {' and '.join(bundle.REQUIRED)}; missing: {', '.join(missing)}")
        # Refuse before anything is written what the commit would be refused for.
        rules.check(ModelState(model), Change(Kind.REGISTERED, {"version": 1}, actor, reason))
        stored = {name: self._put_blob(name, content) for name, content in files.items()}
        entry = self._put_manifest(model, stored, facts)
        change = Change(Kind.REGISTERED, {"version": entry.version, "manifest": canonical.digest(entry.encode())}, actor, reason)
        self._commit(model, lambda _: change)
        return entry.version

    def promote(self, model: str, version: int, *, to: str, actor: str, reason: str) -> Commit:
        """Put a version into a stage; production means that it answers all production traffic.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
            RuleError: if it is there already.
            ConflictError, StoreError: if others kept committing, or the storage refuses.
        """
        if check_stage(to) == PRODUCTION:
            change = Change(Kind.ROUTED, {"stable": version}, actor, reason)
        else:
            change = Change(Kind.STAGED, {"stage": to, "version": version}, actor, reason)
        self.state(model)
        return self._commit(model, lambda _: change)

    def rollback(self, model: str, *, actor: str, reason: str) -> Commit:
        """Return production to the route it had before the present one.

        Raises:
            ModelUnknownError: if the model is not registered.
            RuleError: if there is no earlier route.
            ConflictError, StoreError: if others kept committing, or the storage refuses.
        """
        self.state(model)

        def decide(state: ModelState) -> Change:
            previous = state.previous_route
            return Change(Kind.ROLLED_BACK, {"stable": previous.stable if previous else None}, actor, reason)

        return self._commit(model, decide)

    def _refreshed(self, model: str) -> ModelState:
        known = self._states.get(model, ModelState(check_name(model)))
        if known.seq:
            self._check_continues(known)
        state = fold(known, self.log(model, after=known.seq))
        if state.seq:
            self._states[model] = state
        return state

    def _check_continues(self, known: ModelState) -> None:
        # A log only grows: one that lost or changed a commit we have read was deleted or restored. Its new commits are not ours to follow.
        raw = self._store.get(commit_key(known.model, known.seq))
        if raw is None or canonical.digest(raw) != known.head:
            what = "gone" if raw is None else "another one now"
            advice = "was the registry deleted or restored? Restart to follow it"
            raise CorruptError(f"commit {known.seq} of {known.model!r}, read before, is {what}: {advice}")

    def _commit(self, model: str, decide: Decide) -> Commit:
        for _ in range(MAX_ATTEMPTS):
            state = self._refreshed(model)
            change = decide(state)
            rules.check(state, change)
            entry = commit.at_place(change, model=model, seq=state.seq + 1, previous=state.head, time=self._time_after(state))
            fold(state, [entry])  # what no reader could fold is never written
            if self._store.put_if_absent(commit_key(model, entry.seq), [entry.raw]):
                return entry
        raise ConflictError(f"gave up on {model!r} after {MAX_ATTEMPTS} attempts: others keep committing; try again")

    def _time_after(self, state: ModelState) -> datetime:
        # A clock that is behind the last writer's, or was set back, must not make the log go back: the order of commits is their number.
        now = self._clock()
        return now if state.updated is None else max(now, state.updated)

    def _put_manifest(self, model: str, files: Mapping[str, File], facts: JsonObject) -> Manifest:
        # A number taken by a writer that died before its commit stays unused: the next one is free.
        version = max(self._refreshed(model).versions, default=0) + 1
        while True:
            entry = Manifest(model, version, self._clock(), files, facts)
            if self._store.put_if_absent(manifest_key(model, version), [entry.encode()]):
                return entry
            version += 1

    def _put_blob(self, name: str, content: Content) -> File:
        digest, size = hashlib.sha256(), 0
        for chunk in _chunks(content):
            digest.update(chunk)
            size += len(chunk)
        file = File(digest.hexdigest(), size)
        self._store.put_if_absent(blob_key(file.sha256), _unchanged(_chunks(content), name, file.sha256))
        return file


def open_registry(url: str, clock: Callable[[], datetime] | None = None) -> Registry:
    """The registry at `url` (`file:///...`, or a path), which must exist.

    Raises:
        NotARegistryError: if there is none.
        StoreError: if it cannot be read.
    """
    return Registry(open_folder(local_root(url)), clock or _utc_now)


def create_registry(url: str, clock: Callable[[], datetime] | None = None) -> Registry:
    """The registry at `url`; an absent or empty folder becomes one.

    Raises:
        NotARegistryError: if the place holds something else.
        StoreError: if it cannot be written.
    """
    return Registry(create_folder(local_root(url)), clock or _utc_now)


def local_root(url: str) -> Path:
    """The folder a registry URL names.

    Raises:
        NotARegistryError: for a scheme this release has no storage for, or what no folder can be called.
    """
    if not url or "\0" in unquote(url):
        raise NotARegistryError(f"{url!r} is no place for a registry: use file:///path or a path")
    if not _SCHEME.match(url):
        return Path(url)
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise NotARegistryError(f"{url!r}: use file:///path or a path; other storage is not in this release")
    return Path(unquote(parts.path))


def _chunks(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    try:
        with content.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise StoreError(f"cannot read {content}: {error.strerror}") from error


def _unchanged(chunks: Iterator[bytes], name: str, expected: str) -> Iterator[bytes]:
    """Pass `chunks` on; raise at the end, which undoes the write, if they are not what was hashed before."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != expected:
        raise CorruptError(f"{name} changed while it was being registered: nothing was registered; try again when it is complete")


def _utc_now() -> datetime:
    return datetime.now(UTC)
