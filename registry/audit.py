"""Re-reads one log and names what is wrong with it: its chain, its rules, its signatures, and what checkpoints say it was.

Walks to the end, past what is broken, and reads as much of the rest as can be judged. Files are `verify`'s.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from registry import canonical, checkpoint, commit, rules, sealing
from registry.checkpoint import Checkpoint
from registry.commit import Commit, Kind
from registry.errors import FormatError, RegistryError, SignatureError
from registry.manifest import File
from registry.names import checkpoint_key, commit_key
from registry.state import ModelState, fold
from registry.store import Store, get_one
from registry.times import format_time

if TYPE_CHECKING:
    from registry.signing import Trust

_BATCH = 64


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong with the object stored at `key`."""

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


@dataclass(frozen=True)
class Findings:
    """What a walk through one log found: the state it adds up to, the files its evidence names, and what is wrong."""

    state: ModelState
    evidence: Mapping[int, File]
    """by the number of the commit"""
    groups: frozenset[str]
    """sha256 of the groups of versions that its checkpoints name"""
    vouched: int
    """the newest commit that a trusted checkpoint vouches for; 0 if none does"""
    problems: tuple[Problem, ...]


def audit(
    store: Store, model: str, log: Iterable[int], taken: Iterable[int], kept: Iterable[Checkpoint], trust: "Trust | None"
) -> Findings:
    """Walk the log of `model`.

    `log` and `taken` are the numbers of the commits and of the checkpoints that a listing showed, ascending; `kept` are checkpoints of this
    model that were kept elsewhere.

    Raises:
        StoreError: if the storage refuses.
    """
    return _Walk(store, model, trust).findings(list(log), list(taken), list(kept))


class _Walk:
    """One walk; gathers as it goes."""

    def __init__(self, store: Store, model: str, trust: "Trust | None") -> None:
        self._store = store
        self._model = model
        self._trust = trust
        self._problems: list[Problem] = []
        self._distrusted: dict[int, SignatureError] = {}
        self._evidence: dict[int, File] = {}
        self._state, self._whole, self._before, self._last = ModelState(model), True, b"", 0

    def findings(self, log: list[int], taken: list[int], kept: list[Checkpoint]) -> Findings:
        checkpoints = {seq: self._checkpoint(seq) for seq in taken}
        wanted: dict[int, list[tuple[Checkpoint, bool]]] = {}
        for said, elsewhere in [(said, False) for said in checkpoints.values() if said] + [(said, True) for said in kept]:
            wanted.setdefault(said.seq, []).append((said, elsewhere))
        vouched, groups = 0, set[str]()
        for seq, raw in self._entries(log):
            entry = self._step(seq, raw)
            for said, elsewhere in wanted.pop(seq, []):
                if entry and self._agrees(entry, said, elsewhere=elsewhere):
                    vouched = seq if self._is_trusted(said) else vouched
                    groups.update(() if elsewhere else said.groups.values())
        for seq, missing in sorted(wanted.items()):
            # A listing takes its time: the commit may have come, and its checkpoint after it, when the log had been listed.
            late = get_one(self._store, commit_key(self._model, seq))
            if late is None or any(said.head != canonical.digest(late) for said, _ in missing):
                self._blame_missing(seq, *missing[-1])
        for seq, error in self._distrusted.items():
            if seq > vouched:
                self._blame(commit_key(self._model, seq), str(error))
        return Findings(self._state, self._evidence, frozenset(groups), vouched, tuple(self._problems))

    def _blame(self, key: str, what: str) -> None:
        self._problems.append(Problem(key, what))

    def _entries(self, listed: list[int]) -> Iterator[tuple[int, bytes]]:
        places = self._places(listed)
        while batch := list(islice(places, _BATCH)):
            found = self._store.get([commit_key(self._model, seq) for seq in batch])
            yield from ((seq, raw or b"") for seq, raw in zip(batch, found, strict=True))

    def _places(self, listed: list[int]) -> Iterator[int]:
        # A folder listed while it grows may show commit 6 and not commit 5: what is not listed is missing only if it cannot be read.
        last = 0
        for seq in listed:
            while last + 1 < seq and get_one(self._store, commit_key(self._model, last + 1)) is not None:
                last += 1
                yield last
            yield seq
            last = seq

    def _step(self, seq: int, raw: bytes) -> Commit | None:
        key = commit_key(self._model, seq)
        if seq > self._last + 1:
            self._blame(commit_key(self._model, self._last + 1), f"is missing, while the log goes on with commit {seq}")
            self._whole, self._before = False, b""
        self._last = seq
        entry = self._parse(key, raw, seq)
        if entry is None:  # blamed already: what follows it cannot be judged by it
            self._whole, self._before = False, b""
            return None
        self._check_chain(entry)
        self._check_signature(entry)
        self._follow(entry, key)
        self._before = entry.raw
        return entry

    def _parse(self, key: str, raw: bytes, seq: int) -> Commit | None:
        try:
            entry = commit.parse(raw)
            sealing.check_canonical(raw, "a commit")
        except FormatError as error:
            self._blame(key, str(error))
            return None
        if (entry.model, entry.seq) == (self._model, seq):
            return entry
        self._blame(key, f"holds commit {entry.seq} of {entry.model!r}: it was moved or copied here")
        return None

    def _check_chain(self, entry: Commit) -> None:
        if entry.seq == 1 and entry.previous is not None:
            self._blame(commit_key(self._model, 1), "names a predecessor, though it is the first: the beginning of the log was cut off")
        if self._before and entry.previous != canonical.digest(self._before):
            what = f"is not the commit that commit {entry.seq} follows: it was changed after it was written, or the log was forked here"
            self._blame(commit_key(self._model, entry.seq - 1), what)

    def _check_signature(self, entry: Commit) -> None:
        if self._trust:
            try:
                self._trust.check(entry.value, "it")
            except SignatureError as error:
                self._distrusted[entry.seq] = error

    def _follow(self, entry: Commit, key: str) -> None:
        if self._whole:  # after a hole a rule may seem broken only because of what is missing
            self._check_rules(entry, key)
        try:
            self._state = fold(replace(self._state, seq=entry.seq - 1, head=entry.previous), [entry])
        except FormatError as error:
            if self._whole:
                self._blame(key, str(error))
            return
        if entry.kind is Kind.EVIDENCE and self._whole:
            self._evidence[entry.seq] = File(str(entry.payload.get("sha256")), _size(entry))

    def _check_rules(self, entry: Commit, key: str) -> None:
        try:
            rules.check(self._state, entry.change)
        except RegistryError as error:
            self._blame(key, f"breaks a rule: {error}")
        if self._state.updated is not None and entry.time < self._state.updated:
            self._blame(key, f"is dated {format_time(entry.time)}, before its predecessor: its time was changed")

    def _checkpoint(self, seq: int) -> Checkpoint | None:
        key = checkpoint_key(self._model, seq)
        raw = get_one(self._store, key)
        try:
            said = checkpoint.parse(raw or b"")
            sealing.check_canonical(raw or b"", "a checkpoint")
        except FormatError as error:
            self._blame(key, str(error))
            return None
        if (said.model, said.seq) == (self._model, seq):
            return said
        self._blame(key, f"holds a checkpoint of commit {said.seq} of {said.model!r}: it was moved or copied here")
        return None

    def _agrees(self, entry: Commit, said: Checkpoint, *, elsewhere: bool) -> bool:
        key = checkpoint_key(self._model, entry.seq)
        if entry.digest == said.head:
            if self._whole and not said.agrees(self._state):
                where = commit_key(self._model, entry.seq) if elsewhere else key
                self._blame(where, "adds up to something else than its checkpoint says: the checkpoint was forged")
            return True
        if elsewhere:
            what = f"is not the commit that the checkpoint kept elsewhere names, of {format_time(said.updated)}: the log was rewritten"
            self._blame(commit_key(self._model, entry.seq), what)
        else:
            self._blame(key, "names another commit than the log has: one of the two was rewritten")
        return False

    def _blame_missing(self, seq: int, said: Checkpoint, elsewhere: bool) -> None:  # noqa: FBT001 -- handed over as it was kept
        where = f"a checkpoint kept elsewhere, of {format_time(said.updated)}," if elsewhere else "a checkpoint"
        self._blame(commit_key(self._model, seq), f"is missing, though {where} names it: the newest commits were cut off")

    def _is_trusted(self, said: Checkpoint) -> bool:
        try:
            return self._trust is not None and bool(self._trust.check(said.value, "it"))
        except SignatureError:
            return False


def _size(entry: Commit) -> int:
    size = entry.payload.get("size")
    return size if isinstance(size, int) else -1
