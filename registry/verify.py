"""Re-reads a whole registry and names what is wrong: every log (by `audit`), and every manifest, evidence and blob against its digest.

Reads any store, changes nothing. What cannot be seen from inside: that the newest commits of a log were cut off together with every
checkpoint of them, that a model is gone, or that a log was rewritten by someone who knows the format. Checkpoints kept elsewhere find all
three, trusted keys the last.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from registry import canonical, manifest
from registry.audit import Findings, Problem, audit
from registry.checkpoint import Checkpoint
from registry.commit import Kind
from registry.errors import FormatError, RegistryError, SignatureError
from registry.manifest import Digest, File, Manifest
from registry.names import (
    MARKER,
    MARKER_FORMAT,
    TRASH,
    blob_key,
    commit_key,
    manifest_key,
    parse_blob_key,
    parse_checkpoint_key,
    parse_commit_key,
    parse_manifest_key,
)
from registry.store import Sweepable, get_one
from registry.version import Version

if TYPE_CHECKING:
    from registry.signing import Trust

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many bytes of how many were read."""


@dataclass(frozen=True)
class Report:
    """What a verification found.

    `leftovers` are keys no commit refers to: blobs, manifests and temporary files of writers that died, or are at work. They are no
    problem; `sweep` removes them.
    """

    problems: tuple[Problem, ...]
    leftovers: tuple[str, ...]
    models: int
    commits: int
    versions: int
    blobs: int


def verify(store: Sweepable) -> tuple[Problem, ...]:
    """What is wrong in the registry, sorted by key; empty if everything is as it was written.

    Raises:
        StoreError: if the storage refuses.
    """
    return examine(store).problems


def examine(
    store: Sweepable, trust: "Trust | None" = None, kept: Iterable[Checkpoint] = (), progress: Progress = lambda _done, _all: None
) -> Report:
    """Verify everything, and count what was verified.

    With `trust`, every commit and manifest must be signed by one of its keys, except what a trusted checkpoint vouches for. `kept` are
    checkpoints that were kept elsewhere: what they name must be there, unchanged.

    Raises:
        StoreError: if the storage refuses.
    """
    return _Examination(store, trust, tuple(kept), progress).report()


class _Examination:
    """One walk through a store; gathers as it goes."""

    def __init__(self, store: Sweepable, trust: "Trust | None", kept: tuple[Checkpoint, ...], progress: Progress) -> None:
        self._store = store
        self._trust = trust
        self._kept = kept
        self._progress = progress
        self._problems: list[Problem] = []
        self._used: set[str] = {MARKER}
        self._blobs: dict[str, File | None] = {}
        self._done, self._all = 0, 0

    def report(self) -> Report:
        # Listed first, read after: what a writer adds meanwhile is not looked at, and what the list names is there.
        entries = sorted(self._store.entries(), key=lambda entry: entry.key)
        keys = [entry.key for entry in entries if not entry.unfinished]
        self._all = sum(entry.size for entry in entries)
        logs, taken = _by_model(map(parse_commit_key, keys)), _by_model(map(parse_checkpoint_key, keys))
        models = sorted({*logs, *taken, *(said.model for said in self._kept)})
        self._check_marker()
        found = [self._audit(model, logs.get(model, []), taken.get(model, [])) for model in models]
        for findings in found:
            self._check_files(findings)
        self._check_names(keys)
        leftovers = [key for key in keys if key not in self._used and _may_be_left(key)]
        return Report(
            problems=tuple(sorted(set(self._problems))),
            leftovers=(*leftovers, *(entry.key for entry in entries if entry.unfinished)),
            models=len(logs),
            commits=sum(map(len, logs.values())),
            versions=sum(len(findings.state.versions) for findings in found),
            blobs=len(self._blobs),
        )

    def _blame(self, key: str, what: str) -> None:
        self._problems.append(Problem(key, what))

    def _read(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._all)

    def _check_marker(self) -> None:
        if get_one(self._store, MARKER) != canonical.encode({"format": MARKER_FORMAT}):
            self._blame(MARKER, f"is not the marker of a registry of format {MARKER_FORMAT}")

    def _check_names(self, keys: list[str]) -> None:
        for key in keys:
            if not (key in self._used or _belongs(key)):
                self._blame(key, "nothing of this name belongs in a registry: remove it, or was it written by another release?")

    def _audit(self, model: str, log: list[int], taken: list[int]) -> Findings:
        findings = audit(self._store, model, log, taken, [said for said in self._kept if said.model == model], self._trust)
        self._problems.extend(findings.problems)
        self._read(len(log))
        return findings

    def _check_files(self, findings: Findings) -> None:
        model = findings.state.model
        for version in findings.state.versions.values():
            self._check_version(model, version, vouched=version.seq <= findings.vouched)
        for seq, file in findings.evidence.items():
            self._check_file(file, f"evidence of commit {seq} of {model!r}", commit_key(model, seq))
        for digest in sorted(findings.groups):
            self._check_group(digest, model)

    def _check_version(self, model: str, version: Version, *, vouched: bool) -> None:
        key = manifest_key(model, version.number)
        self._used.add(key)
        found = self._manifest(key, version)
        if found is None:
            return
        if (found.model, found.version) != (model, version.number):
            self._blame(key, f"says that it is version {found.version} of {found.model!r}")
        if self._trust and not vouched:
            try:
                self._trust.check(found.to_json(), "it")
            except SignatureError as error:
                self._blame(key, str(error))
        for name, file in found.files.items():
            self._check_file(file, f"{name} of version {version.number} of {model!r}", key)

    def _manifest(self, key: str, version: Version) -> Manifest | None:
        raw = get_one(self._store, key)
        self._read(len(raw or b""))
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

    def _check_file(self, file: File, what: str, named_by: str) -> None:
        try:
            key = blob_key(file.sha256)
        except RegistryError as error:
            self._blame(named_by, str(error))
            return
        self._used.add(key)
        if file.sha256 not in self._blobs:
            self._blobs[file.sha256] = self._hashed(key)
        found = self._blobs[file.sha256]
        if found is None:
            self._blame(key, f"is missing: {what}")
        elif found.sha256 != file.sha256:
            self._blame(key, f"its bytes are not those of its name: {what}")
        elif found.size != file.size:
            self._blame(key, f"has {found.size} bytes, {named_by} says {file.size}: {what}")

    def _check_group(self, digest: str, model: str) -> None:
        key = blob_key(digest)
        self._used.add(key)
        found = self._blobs[digest] if digest in self._blobs else self._hashed(key)
        self._blobs[digest] = found
        if found is None or found.sha256 != digest:
            what = "is missing" if found is None else "its bytes are not those of its name"
            self._blame(key, f"{what}: versions of {model!r}, as a checkpoint names them")

    def _hashed(self, key: str) -> File | None:
        parts = self._store.open(key)
        if parts is None:
            return None
        digest = Digest()
        for part in digest.over(parts):
            self._read(len(part))
        return digest.file()


def describe(report: Report) -> Iterator[str]:
    """The report in lines of text."""
    yield from map(str, report.problems)
    if report.leftovers:
        yield f"{len(report.leftovers)} leftovers of writers that died or are at work; harmless, gc removes them"
    counted = f"{report.models} models, {report.versions} versions, {report.commits} commits, {report.blobs} blobs"
    yield f"{len(report.problems)} problems in {counted}" if report.problems else f"all as written: {counted}"


def _by_model(places: Iterable[tuple[str, int] | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for model, number in filter(None, places):
        found.setdefault(model, []).append(number)
    return found


def _may_be_left(key: str) -> bool:
    return key.startswith(TRASH) or bool(parse_blob_key(key) or parse_manifest_key(key))


def _belongs(key: str) -> bool:
    return bool(_may_be_left(key) or parse_commit_key(key) or parse_checkpoint_key(key))
