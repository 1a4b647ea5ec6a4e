"""The operations of the registry, on any store: what may be asked of models and versions, and what may be changed.

Every change is one commit of `log`; files go through `blobs`. Where a registry is, and who signs, is decided in `location`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from registry import bundle, canonical, checkpoint, manifest, rules
from registry.alert import ALERT, Alert, noted_in
from registry.blobs import Blobs, Content
from registry.canonical import JsonObject
from registry.checkpoint import Checkpoint
from registry.commit import Change, Commit, Kind
from registry.errors import AlreadyNotedError, CorruptError, ModelUnknownError, NotARegistryError, NotFoundError, RuleError
from registry.log import Clock, Logs
from registry.manifest import File, Manifest
from registry.names import MARKER, PRODUCTION, check_name, check_stage, manifest_key
from registry.onnx_guard import Guard
from registry.route import Target, parse_target
from registry.sealing import Sign, unsigned
from registry.state import ModelState
from registry.store import Sweepable, get_one

if TYPE_CHECKING:
    from registry.signing import Trust


CLOCKS_DIFFER = timedelta(days=1)
"""By no more than this may the time of a note be earlier than the alert it notes."""


@dataclass(frozen=True)
class Registry:
    """All models on one store.

    A state once read is kept: a later read folds only the commits that came since. Instances share nothing but the guard; safe for use
    from one thread at a time. Every operation raises a StoreError if the storage refuses.
    """

    store: Sweepable
    clock: Clock
    guard: Guard
    sign: Sign = unsigned
    trust: "Trust | None" = None
    begun_from: "Trust | None" = None
    """whose checkpoints are begun from where there is no trust: the signer's own"""

    @cached_property
    def logs(self) -> Logs:
        """The logs of the models: what every operation reads and appends to."""
        return Logs(self.store, self.clock, self.sign, self.trust, self.begun_from)

    @cached_property
    def blobs(self) -> Blobs:
        """The files of bundles and evidence."""
        return Blobs(self.store, self.guard)

    def models(self) -> list[str]:
        """The names of all models with at least one commit, sorted.

        Raises:
            NotARegistryError: if the registry that was opened is gone.
        """
        if get_one(self.store, MARKER) is None:
            raise NotARegistryError(f"the registry has no {MARKER} any more: was it deleted or moved?")
        return self.logs.models()

    def log(self, model: str, after: int = 0) -> Iterator[Commit]:
        """The commits of a model with a number above `after`, in order.

        Raises:
            CorruptError, FormatError: where the log is not whole.
        """
        return self.logs.trusted(check_name(model), after)

    def history(self, model: str, version: int) -> Iterator[Commit]:
        """The commits that speak of one version, in order.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
        """
        first = self.state(model).version(version).seq
        return (entry for entry in self.logs.trusted(model, first - 1) if version in spoken_of(entry))

    def state(self, model: str) -> ModelState:
        """The present state of a model.

        Raises:
            ModelUnknownError: if it has no commit.
            CorruptError, FormatError, SignatureError: if its log is not whole, or not trusted.
        """
        state = self.logs.state(model)
        if state.seq == 0:
            raise self._unknown(model)
        return state

    def state_at(self, model: str, time: datetime) -> ModelState:
        """The state as it was at `time`: the fold of the log before its first commit that is later.

        Raises:
            ModelUnknownError: if the model has no commit at all.
        """
        self.state(model)
        return self.logs.state_at(model, time)

    def manifest(self, model: str, version: int) -> Manifest:
        """The manifest of a registered version, checked against the digest its commit recorded.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
            CorruptError: if it is missing or its bytes differ from those registered.
        """
        found = manifest.parse(self.raw_manifest(model, version))
        if (found.model, found.version) != (model, version):
            raise CorruptError(f"the manifest of version {version} of {model!r} says that it is another's: run verify")
        return found

    def raw_manifest(self, model: str, version: int) -> bytes:
        """The bytes of a manifest, as they were signed and registered; raises as `manifest` does."""
        expected = self.state(model).version(version).manifest
        raw = get_one(self.store, manifest_key(model, version))
        if raw is None or canonical.digest(raw) != expected:
            what = "missing" if raw is None else "not the registered one"
            raise CorruptError(f"the manifest of version {version} of {model!r} is {what}: run verify")
        return raw

    def read(self, model: str, version: int, name: str) -> bytes:
        """The bytes of one file of a bundle, hashed as they were read.

        Raises:
            NotFoundError: if the version or the file is not registered.
            CorruptError: if the file is missing from the store or its bytes differ from those registered.
        """
        return self.blobs.get(self.manifest(model, version).file(name).sha256)

    def evidence(self, model: str, version: int, name: str) -> bytes:
        """The newest evidence of this name about a version.

        Raises:
            NotFoundError: if the version has none of this name.
            CorruptError: if it is missing from the store or its bytes differ.
        """
        known = self.state(model).version(version).evidence
        if name not in known:
            raise NotFoundError(f"version {version} of {model!r} has no evidence {name!r}; it has {', '.join(sorted(known)) or 'none'}")
        return self.blobs.get(known[name].sha256)

    def register(self, model: str, files: Mapping[str, Content], facts: JsonObject, *, actor: str, reason: str) -> int:
        """Store a bundle and commit it as the next version; returns the version number.

        Blobs first, then the manifest, then the commit: a crash in between leaves files that nothing refers to, never half a version.

        Raises:
            InvalidNameError: for a model or file name that is not allowed.
            RuleError: if a required file is missing.
            ModelRefusedError: if the guard does not let the ONNX file in.
            FormatError: if a file of the bundle is not of its format.
            ConflictError: if others kept registering.
        """
        check_name(model)
        for name in files:
            check_name(name, "file")
        if missing := [name for name in bundle.REQUIRED if name not in files]:
            raise RuleError(f"a bundle needs {' and '.join(bundle.REQUIRED)}; missing: {', '.join(missing)}")
        # Refuse before anything is written what the commit would be refused for.
        rules.check(ModelState(model), Change(Kind.REGISTERED, {"version": 1, "manifest": "0" * 64}, actor, reason))
        stored = {name: self.blobs.put(name, content) for name, content in files.items()}
        version, digest = self._put_manifest(model, stored, facts)
        change = Change(Kind.REGISTERED, {"version": version, "manifest": digest}, actor, reason)
        self.logs.append(model, lambda _: change)
        for name, content in files.items():
            self.blobs.keep(name, content, stored[name])
        return version

    def attach(self, model: str, version: int, name: str, content: Content, *, actor: str, reason: str) -> Commit:
        """Attach evidence to a version: a file of any kind; the newest of a name counts.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
            RuleError: if the name is not allowed.
        """
        draft: JsonObject = {"version": version, "name": name, "sha256": "0" * 64, "size": 0}
        rules.check(self.state(model), Change(Kind.EVIDENCE, draft, actor, reason))
        file = self.blobs.put(f"evidence.{name}", content)
        entry = self._change(model, Kind.EVIDENCE, {**draft, "sha256": file.sha256, "size": file.size}, actor, reason)
        self.blobs.keep(f"evidence.{name}", content, file)
        return entry

    def approve(self, model: str, version: int, *, actor: str, reason: str) -> Commit:
        """Record that `actor` approves of a version.

        Raises:
            RuleError: if they have already, or it is retired.
        """
        return self._change(model, Kind.APPROVED, {"version": version}, actor, reason)

    def promote(self, model: str, version: int, *, to: str, actor: str, reason: str) -> Commit:
        """Put a version into a stage; production means that it answers all production traffic.

        Raises:
            ModelUnknownError, VersionUnknownError: if it is not registered.
            RuleError: if it is there already, or retired.
        """
        if check_stage(to) == PRODUCTION:
            return self.route(model, Target(version), actor=actor, reason=reason)
        return self._change(model, Kind.STAGED, {"stage": to, "version": version}, actor, reason)

    def route(self, model: str, target: Target, *, actor: str, reason: str) -> Commit:
        """Say which versions answer production traffic, with which weights, and which shadow it.

        Raises:
            ModelUnknownError, VersionUnknownError: if one is not registered.
            RuleError: if it is the present route, the weights are not percentages, or a version is retired.
        """
        return self._change(model, Kind.ROUTED, target.to_json(), actor, reason)

    def rollback(self, model: str, *, actor: str, reason: str) -> Commit:
        """Return production to the route it had before the present one.

        Raises:
            ModelUnknownError: if the model is not registered.
            RuleError: if there is no earlier route.
        """
        self.state(model)

        def decide(state: ModelState) -> Change:
            previous = state.previous_route
            return Change(Kind.ROLLED_BACK, previous.target.to_json() if previous else {}, actor, reason)

        return self.logs.append(model, decide)

    def sign_off(self, model: str, version: int, item: str, *, actor: str, reason: str) -> Commit:
        """Record that `actor` answers for an item of a version's checklist.

        Raises:
            RuleError: if the item's name is not allowed.
        """
        return self._change(model, Kind.SIGNED_OFF, {"version": version, "item": item}, actor, reason)

    def override(self, model: str, version: int, gate: str, *, actor: str, reason: str) -> Commit:
        """Record that `actor` lets a version pass a gate that refuses it, and why.

        Raises:
            RuleError: if the gate's name is not allowed.
        """
        return self._change(model, Kind.OVERRIDDEN, {"version": version, "gate": gate}, actor, reason)

    def retire(self, model: str, version: int, *, actor: str, reason: str) -> Commit:
        """Take a version out of use for good; its files and its history stay.

        Raises:
            RuleError: if it is in use, or what a rollback would return to, or retired already.
        """
        return self._change(model, Kind.RETIRED, {"version": version}, actor, reason)

    def note(self, model: str, version: int | None = None, *, actor: str, reason: str) -> Commit:
        """Write `reason` into the log, about a version or about the model; changes nothing else."""
        return self._change(model, Kind.NOTED, {} if version is None else {"version": version}, actor, reason)

    def note_alert(self, model: str, alert: Alert, *, actor: str, reason: str) -> Commit:
        """Write a notice of an alert into the log, about the version its labels name, if there is one; once, whoever else is told it.

        Raises:
            ModelUnknownError: if the model is not registered.
            AlreadyNotedError: if the log holds this notice.
            RuleError: if the actor or the reason is missing or too long.
        """
        self.state(model)
        # Who writes notes and who says when an alert began have clocks of their own, and either may be wrong.
        earliest = self.logs.before(model, min(alert.starts_at, self.clock()) - CLOCKS_DIFFER)

        def decide(state: ModelState) -> Change:
            for entry in self.log(model, earliest):
                noted = noted_in(entry)
                if noted and noted.same_notice(alert):
                    raise AlreadyNotedError(f"commit {entry.seq} of {model!r} notes this alert already")
            about = {"version": int(alert.version)} if alert.version in map(str, state.versions) else {}
            return Change(Kind.NOTED, {**about, ALERT: alert.to_json()}, actor, reason)

        return self.logs.append(model, decide)

    def checkpoint(self, model: str) -> Checkpoint:
        """Store a checkpoint of the present state, unless there is one of this commit, and return it.

        Raises:
            ModelUnknownError: if the model is not registered.
            CorruptError, FormatError, SignatureError: if its log is not whole, or not trusted.
        """
        self.state(model)
        return checkpoint.parse(self.logs.write_checkpoint(model))

    def _change(self, model: str, kind: Kind, payload: JsonObject, actor: str, reason: str) -> Commit:
        self.state(model)
        return self.logs.append(model, lambda _: Change(kind, payload, actor, reason))

    def _put_manifest(self, model: str, files: Mapping[str, File], facts: JsonObject) -> tuple[int, str]:
        # A number taken by a writer that died before its commit stays unused: the next one is free.
        version = self.logs.state(model).versions.newest + 1
        while True:
            raw = Manifest(model, version, self.clock(), files, facts).encode(self.sign)
            if self.store.put_if_absent(manifest_key(model, version), [raw]):
                return version, canonical.digest(raw)
            version += 1

    def _unknown(self, model: str) -> ModelUnknownError:
        known = self.models()
        listed = ", ".join(known[:20]) or "none"
        return ModelUnknownError(f"no model {model!r} in the registry; known: {listed}{' ...' if len(known) > 20 else ''}")  # noqa: PLR2004


def spoken_of(entry: Commit) -> set[int]:
    """The versions a commit speaks of: the one it names, or those of a route."""
    if entry.kind in {Kind.ROUTED, Kind.ROLLED_BACK}:
        return set(parse_target(entry.payload).versions)
    version = entry.payload.get("version")
    return {version} if isinstance(version, int) else set()
