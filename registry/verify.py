"""Re-reads a whole registry and names what is wrong: every log against its chain and the rules, every manifest and blob against its digest.

Reads any store, changes nothing. What cannot be seen from inside: that the newest commits of a log were cut off, or the newest one
rewritten with a new checksum. Whoever must know that keeps the digest of the newest commit elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from registry import canonical, commit, manifest, rules
from registry.commit import Commit, Kind
from registry.errors import FormatError, RegistryError
from registry.manifest import File, Manifest
from registry.names import (
    MARKER,
    MARKER_FORMAT,
    blob_key,
    commit_key,
    manifest_key,
    parse_blob_key,
    parse_commit_key,
    parse_manifest_key,
)
from registry.state import ModelState, Version, fold
from registry.store import Store


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong with the object stored at `key`."""

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What a verification found.

    `leftovers` are keys no commit refers to: blobs, manifests and temporary files of writers that died, or are at work. They are no
    problem; they may be removed if there are no problems (a broken manifest names no blobs, so that these look unused) and no writers.
    """

    problems: tuple[Problem, ...]
    leftovers: tuple[str, ...]
    models: int
    commits: int
    versions: int
    blobs: int


def verify(store: Store) -> tuple[Problem, ...]:
    """What is wrong in the registry, sorted by key; empty if everything is as it was written.

    Raises:
        StoreError: if the storage refuses.
    """
    return examine(store).problems


def examine(store: Store) -> Report:
    """Verify, and count what was verified.

    Raises:
        StoreError: if the storage refuses.
    """
    return _Examination(store).report()


class _Examination:
    """One walk through a store; gathers as it goes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._problems: list[Problem] = []
        self._used: set[str] = {MARKER}
        self._blobs: dict[str, File | None] = {}

    def report(self) -> Report:
        # Listed first, read after: what a writer adds meanwhile is not looked at, and what the list names is there.
        keys = sorted(self._store.list(""))
        unfinished = sorted(self._store.unfinished())
        logs: dict[str, list[int]] = {}
        for model, seq in filter(None, map(parse_commit_key, keys)):
            logs.setdefault(model, []).append(seq)
        self._check_marker()
        states = [self._check_log(model, listed) for model, listed in logs.items()]
        versions = [(state.model, version) for state in states for version in state.versions.values()]
        for model, version in versions:
            self._check_version(model, version)
        leftovers = [key for key in keys if key not in self._used and (parse_blob_key(key) or parse_manifest_key(key))]
        for key in keys:
            if not (key in self._used or parse_commit_key(key) or parse_blob_key(key) or parse_manifest_key(key)):
                self._blame(key, "nothing of this name belongs in a registry: remove it, or was it written by another release?")
        return Report(
            problems=tuple(sorted(set(self._problems))),
            leftovers=tuple(chain(leftovers, unfinished)),
            models=len(states),
            commits=sum(map(len, logs.values())),
            versions=len(versions),
            blobs=len(self._blobs),
        )

    def _blame(self, key: str, what: str) -> None:
        self._problems.append(Problem(key, what))

    def _check_marker(self) -> None:
        if self._store.get(MARKER) != canonical.encode({"format": MARKER_FORMAT}):
            self._blame(MARKER, f"is not the marker of a registry of format {MARKER_FORMAT}")

    def _check_log(self, model: str, listed: list[int]) -> ModelState:
        """Walk a log to its end, past what is broken, and return the state it adds up to."""
        state, whole, before, last = ModelState(model), True, b"", 0
        for seq in self._places(model, listed):
            key = commit_key(model, seq)
            if seq > last + 1:
                self._blame(commit_key(model, last + 1), f"is missing, while the log goes on with commit {seq}")
                whole, before = False, b""
            last = seq
            entry = self._parse(key, self._store.get(key) or b"", model, seq)
            if entry is None:  # blamed already: what follows it cannot be judged by it
                whole, before = False, b""
                continue
            self._check_chain(model, entry, before)
            state = self._follow(state, entry, key, whole=whole)
            before = entry.raw
        return state

    def _places(self, model: str, listed: list[int]) -> Iterator[int]:
        # A folder listed while it grows may show commit 6 and not commit 5: what is not listed is missing only if it cannot be read.
        last = 0
        for seq in listed:
            while last + 1 < seq and self._store.get(commit_key(model, last + 1)) is not None:
                last += 1
                yield last
            yield seq
            last = seq

    def _parse(self, key: str, raw: bytes, model: str, seq: int) -> Commit | None:
        try:
            entry = commit.parse(raw)
        except FormatError as error:
            self._blame(key, str(error))
            return None
        if (entry.model, entry.seq) == (model, seq):
            return entry
        self._blame(key, f"holds commit {entry.seq} of {entry.model!r}: it was moved or copied here")
        return None

    def _check_chain(self, model: str, entry: Commit, before: bytes) -> None:
        if entry.seq == 1 and entry.previous is not None:
            self._blame(commit_key(model, 1), "names a predecessor, though it is the first: the beginning of the log was cut off")
        if before and entry.previous != canonical.digest(before):
            what = f"is not the commit that commit {entry.seq} follows: it was changed after it was written, or the log was forked here"
            self._blame(commit_key(model, entry.seq - 1), what)

    def _follow(self, state: ModelState, entry: Commit, key: str, *, whole: bool) -> ModelState:
        if whole:  # after a hole a rule may seem broken only because of what is missing
            self._check_rules(state, entry, key)
        try:
            return fold(replace(state, seq=entry.seq - 1, head=entry.previous), [entry])
        except FormatError as error:
            self._blame(key, str(error))
            return state

    def _check_rules(self, state: ModelState, entry: Commit, key: str) -> None:
        try:
            rules.check(state, entry.change)
        except RegistryError as error:
            self._blame(key, f"breaks a rule: {error}")
        if state.updated is not None and entry.time < state.updated:
            self._blame(key, f"is dated {commit.format_time(entry.time)}, before its predecessor: its time was changed")

    def _check_version(self, model: str, version: Version) -> None:
        try:
            key = manifest_key(model, version.number)
        except RegistryError:
            return  # the rules have blamed the commit
        self._used.add(key)
        found = self._manifest(key, version)
        if found is None:
            return
        if (found.model, found.version) != (model, version.number):
            self._blame(key, f"says that it is version {found.version} of {found.model!r}")
        for name, file in found.files.items():
            self._check_file(file, f"{name} of version {version.number} of {model!r}")

    def _manifest(self, key: str, version: Version) -> Manifest | None:
        raw = self._store.get(key)
        if raw is None:
            self._blame(key, f"is missing; a {Kind.REGISTERED} commit names it")
        elif canonical.digest(raw) != version.manifest:
            self._blame(key, "its bytes are not those that were registered")
        else:
            try:
                return manifest.parse(raw)
            except FormatError as error:
                self._blame(key, str(error))
        return None

    def _check_file(self, file: File, what: str) -> None:
        key = blob_key(file.sha256)
        self._used.add(key)
        if file.sha256 not in self._blobs:
            self._blobs[file.sha256] = self._hashed(key)
        found = self._blobs[file.sha256]
        if found is None:
            self._blame(key, f"is missing: {what}")
        elif found.sha256 != file.sha256:
            self._blame(key, f"its bytes are not those of its name: {what}")
        elif found.size != file.size:
            self._blame(key, f"has {found.size} bytes, its manifest says {file.size}: {what}")

    def _hashed(self, key: str) -> File | None:
        raw = self._store.get(key)
        return None if raw is None else File(canonical.digest(raw), len(raw))


def describe(report: Report) -> Iterator[str]:
    """The report in lines of text."""
    yield from map(str, report.problems)
    if report.leftovers:
        yield f"{len(report.leftovers)} leftovers of writers that died or are at work; harmless"
    counted = f"{report.models} models, {report.versions} versions, {report.commits} commits, {report.blobs} blobs"
    yield f"{len(report.problems)} problems in {counted}" if report.problems else f"all as written: {counted}"
