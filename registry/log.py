"""The logs of the models on a store: reading their tails, keeping their states, appending. What a commit may be is `rules`'.

A state is read from the newest checkpoint and the commits after it, then kept: the next read takes only what came since. A read that meets
a hole, a log that is not the one read before, or bytes nobody trusted signed, says so and changes nothing.
"""

import random
import secrets
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeAlias

from registry import canonical, checkpoint, commit, rules
from registry.checkpoint import Checkpoint
from registry.commit import Change, Commit
from registry.errors import AccessDeniedError, ConflictError, CorruptError, FormatError, RegistryError, RuleError, SignatureError
from registry.names import (
    MODELS,
    blob_key,
    check_name,
    checkpoint_key,
    checkpoint_prefix,
    commit_key,
    commit_keys,
    is_name,
    parse_checkpoint_key,
)
from registry.sealing import Sign, unsigned
from registry.state import ModelState, fold
from registry.store import Store, get_one

if TYPE_CHECKING:
    from registry.signing import Trust

Decide: TypeAlias = Callable[[ModelState], Change]
Clock: TypeAlias = Callable[[], datetime]

MAX_ATTEMPTS = 400
"""Of sixteen writers that race for every number, one that loses so often in a row is none in a hundred million commits."""
_FIRST_BATCH, _BATCH = 3, 64
_CROWD, _LONGEST_WAIT = 5, 1.0


class Logs:
    """The logs of one store; for one thread at a time. With `trust`, only what it vouches for is read, and nothing else is built upon."""

    def __init__(
        self, store: Store, clock: Clock, sign: Sign = unsigned, trust: "Trust | None" = None, begun_from: "Trust | None" = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._sign = sign
        self._trust = trust
        # Who signs vouches for what they begin from: without other trust, only for checkpoints of their own key.
        self._begun_from = trust or begun_from
        self._states: dict[str, ModelState] = {}
        self._written: set[str] = set()

    def models(self) -> list[str]:
        """The names of all models with at least one commit, sorted; those that may not be read are among them."""
        names = sorted(model_names(self._store))
        try:
            firsts = self._store.get([commit_key(name, 1) for name in names])
        except AccessDeniedError:
            return [name for name in names if self._may_have_begun(name)]
        return [name for name, first in zip(names, firsts, strict=True) if first is not None]

    def _may_have_begun(self, model: str) -> bool:
        try:
            return get_one(self._store, commit_key(model, 1)) is not None
        except AccessDeniedError:
            return True  # said to whoever reads this model, and not to those who read others

    def commits(self, model: str, after: int = 0) -> Iterator[Commit]:
        """The commits of a model with a number above `after`, in order.

        Raises:
            FormatError: at an entry that is not a commit.
            CorruptError: at a hole: an entry that is missing while a later one is there.
        """
        return self._commits(model, after + 1, _FIRST_BATCH)

    def _commits(self, model: str, seq: int, size: int) -> Iterator[Commit]:
        while True:
            found = self._store.get(commit_keys(model, range(seq, seq + size)))
            for raw in self._settled(model, seq, found):
                if raw is None:
                    return
                yield commit.parse(raw)
            seq, size = seq + size, _BATCH

    def trusted(self, model: str, after: int = 0) -> Iterator[Commit]:
        """The same; with `trust`, only commits that it vouches for: signed by its keys, or followed, link by link, by a checkpoint that is.

        Raises:
            SignatureError: at a commit that nobody trusted signed.
            CorruptError: if the commits are not those that a trusted checkpoint names.
        """
        vouching = self._trusted_checkpoint(model) if self._trust else None
        held: list[Commit] = []
        for entry in self.commits(model, after):
            if vouching is None or entry.seq > vouching.seq:
                yield self._trusted(entry)
                continue
            if held and entry.previous != held[-1].digest:
                raise FormatError(f"commit {entry.seq} of {model!r} does not follow commit {entry.seq - 1}: the log is broken, run verify")
            held.append(entry)
            if entry.seq == vouching.seq:
                if entry.digest != vouching.head:
                    raise CorruptError(f"commit {entry.seq} of {model!r} is not the one a trusted checkpoint names: run verify")
                yield from held
                held = []
        if held and vouching:
            raise CorruptError(f"the log of {model!r} ends before commit {vouching.seq}, which a trusted checkpoint names: run verify")

    def commit(self, model: str, seq: int) -> Commit:
        """One commit.

        Raises:
            CorruptError: if it is missing.
            FormatError: if it is not a commit.
        """
        return commit.parse(self._entry(model, seq))

    def state(self, model: str) -> ModelState:
        """The present state of a model; at commit 0 if nothing was committed.

        Raises:
            CorruptError, FormatError: if the log is not whole, or is not the one read before.
            SignatureError: if nobody trusted signed it.
        """
        known = self._states.get(check_name(model)) or self._newest_checkpoint(model, None)
        state = fold(known, map(self._trusted, self._since(known)))
        if state.seq:
            self._states[model] = state
        return state

    def state_at(self, model: str, moment: datetime) -> ModelState:
        """The state as it was at `moment`: the fold of the log before its first commit that is later."""
        start = self._newest_checkpoint(check_name(model), moment)
        if start.seq:
            self._check_continues(start, get_one(self._store, commit_key(model, start.seq)))
        return fold(start, takewhile(lambda entry: entry.time <= moment, self.trusted(model, after=start.seq)))

    def before(self, model: str, moment: datetime) -> int:
        """The number of the last commit earlier than `moment`; 0 if there is none."""
        # Times never go back in a log, whatever the clocks do.
        return bisect_left(range(1, self.state(model).seq + 1), moment, key=lambda seq: self.commit(model, seq).time)

    def append(self, model: str, decide: Decide) -> Commit:
        """Commit what `decide` says of the present state: check the rule, put if absent, or read again and retry.

        Raises:
            RuleError, VersionUnknownError: if a rule forbids it.
            ConflictError: if others kept committing first.
        """
        for attempt in range(MAX_ATTEMPTS):
            begun = time.monotonic()
            state = self.state(model)
            if model not in self._written:
                self._check_ends(state)
            change = decide(state)
            rules.check(state, change)
            entry = self._placed(state, change)
            after = fold(state, [entry])  # what no reader could fold is never written
            if self._store.put_if_absent(commit_key(model, entry.seq), [entry.raw]) or self._is_ours(entry):
                self._states[model] = after
                self._written.add(model)
                if after.seq % checkpoint.EVERY == 0:
                    # The commit is made, whatever becomes of this: the next reader replays a little more.
                    with suppress(RegistryError):
                        self.write_checkpoint(model)
                return entry
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, (time.monotonic() - begun) * _spread(attempt))))  # noqa: S311
        raise ConflictError(f"gave up on {model!r} after {MAX_ATTEMPTS} attempts: others keep committing; try again")

    def write_checkpoint(self, model: str) -> bytes:
        """Store a checkpoint of the present state, unless there is one of this commit, and return its bytes.

        Raises:
            RuleError: if there is one of this commit that cannot be begun from: damaged, or not signed by whom it should be.
            CorruptError, FormatError, SignatureError: as `state`.
        """
        state = self.state(model)
        for group in state.versions.groups.values():
            if not group.stored:
                self._store.put_if_absent(blob_key(group.digest), [group.raw])
        raw = checkpoint.encode(state, self._sign)
        if not self._store.put_if_absent(checkpoint_key(model, state.seq), [raw]):
            self._check_usable(model, state.seq)
        # From here on its groups are stored ones, which the next checkpoint has not to store again.
        self._states[model] = checkpoint.parse(raw).state(partial(self._group, model, state.seq))
        return raw

    def _is_ours(self, entry: Commit) -> bool:
        # A proxy that sends a request twice turns our own write into a refusal. The nonce tells: nobody else wrote these bytes.
        return get_one(self._store, commit_key(entry.model, entry.seq)) == entry.raw

    def _since(self, known: ModelState) -> Iterator[Commit]:
        """The commits behind `known`, after a look at its own: one request where nothing is new."""
        if not known.seq:
            yield from self.commits(known.model)
            return
        head, *found = self._store.get(commit_keys(known.model, range(known.seq, known.seq + _FIRST_BATCH)))
        self._check_continues(known, head)
        settled = self._settled(known.model, known.seq + 1, found)
        yield from map(commit.parse, filter(None, settled))
        if settled[-1] is not None:
            yield from self._commits(known.model, known.seq + len(settled) + 1, _BATCH)

    def _placed(self, state: ModelState, change: Change) -> Commit:
        # A clock that is behind the last writer's, or was set back, must not make the log go back: the order of commits is their number.
        now = self._clock()
        return commit.at_place(
            change,
            model=state.model,
            seq=state.seq + 1,
            previous=state.head,
            time=now if state.updated is None else max(now, state.updated),
            nonce=secrets.token_hex(8),
            sign=self._sign,
        )

    def _newest_checkpoint(self, model: str, moment: datetime | None) -> ModelState:
        """The state at the newest checkpoint (not later than `moment`) that can be read and, where that matters, trusted."""
        numbers = sorted(checkpoints_of(self._store, model))
        if moment is not None:
            numbers = numbers[: bisect_right(numbers, moment, key=lambda seq: self.commit(model, seq).time)]
        for seq in reversed(numbers):
            state = self._read_checkpoint(model, seq)
            if state is not None:
                return state
        return ModelState(model)

    def _check_usable(self, model: str, seq: int) -> None:
        if self._read_checkpoint(model, seq) is None:
            raise RuleError(
                f"there is a checkpoint of commit {seq} of {model!r} already, damaged or not signed by whom it should be; nothing is ever "
                "overwritten: commit something, such as a note, and take it then"
            )

    def _trusted_checkpoint(self, model: str) -> Checkpoint | None:
        """The newest checkpoint that trust vouches for."""
        found = (self._parsed_checkpoint(model, seq) for seq in sorted(checkpoints_of(self._store, model), reverse=True))
        return next((said for said in found if said), None)

    def _read_checkpoint(self, model: str, seq: int) -> ModelState | None:
        # One that is damaged, or that nobody trusted signed, is passed over: the log itself is what counts. `verify` names it.
        found = self._parsed_checkpoint(model, seq)
        return found.state(partial(self._group, model, seq)) if found else None

    def _parsed_checkpoint(self, model: str, seq: int) -> Checkpoint | None:
        try:
            found = checkpoint.parse(get_one(self._store, checkpoint_key(model, seq)) or b"")
            if self._begun_from:
                self._begun_from.check(found.value, "a checkpoint")
        except (FormatError, SignatureError):
            return None
        return found if (found.model, found.seq) == (model, seq) else None

    def _group(self, model: str, seq: int, place: int, digest: str) -> bytes:
        """The bytes of a group of versions as it was at commit `seq`: as stored, or, if they are gone or damaged, as the log says."""
        raw = get_one(self._store, blob_key(digest))
        if raw is None or canonical.digest(raw) != digest:
            commits = takewhile(lambda entry: entry.seq <= seq, self.commits(model))
            group = fold(ModelState(model), commits).versions.groups.get(place)
            raw = group.raw if group else b""
            if canonical.digest(raw) != digest:
                raise CorruptError(f"checkpoint {seq} of {model!r} does not say what the log adds up to: run verify")
        return raw

    def _check_continues(self, known: ModelState, raw: bytes | None) -> None:
        # A log only grows: one that lost or changed a commit we have read was cut off, deleted or restored. What came since is not ours
        # to follow. A checkpoint is held to the same: the commit it was taken at is there, or the log has lost its end.
        if raw is None or canonical.digest(raw) != known.head:
            what = "gone" if raw is None else "another one now"
            advice = "was the registry deleted or restored? Run verify; restart to follow it as it is"
            raise CorruptError(f"commit {known.seq} of {known.model!r}, read before or named by a checkpoint, is {what}: {advice}")

    def _check_ends(self, state: ModelState) -> None:
        """Refuse to fill a hole that a lost commit has left: the commits behind it would no longer follow."""
        ahead = range(state.seq + 2, state.seq + 2 + checkpoint.EVERY)
        found = self._store.get(commit_keys(state.model, ahead))
        beyond = next((number for number, raw in zip(ahead, found, strict=True) if raw is not None), None)
        if beyond and get_one(self._store, commit_key(state.model, state.seq + 1)) is None:
            raise _hole(state.model, state.seq + 1, beyond)

    def _settled(self, model: str, first: int, found: Sequence[bytes | None]) -> Sequence[bytes | None]:
        """`found`, in which nothing follows what is absent: a commit that came while they were being read is looked up again."""
        settled = list(found)
        end = max((place for place, raw in enumerate(found) if raw is not None), default=-1)
        for place in range(end):
            if settled[place] is None:
                settled[place] = get_one(self._store, commit_key(model, first + place))
                if settled[place] is None:
                    raise _hole(model, first + place, first + end)
        return settled

    def _entry(self, model: str, seq: int) -> bytes:
        raw = get_one(self._store, commit_key(model, seq))
        if raw is None:
            raise CorruptError(f"commit {seq} of {model!r} is missing: run verify")
        return raw

    def _trusted(self, entry: Commit) -> Commit:
        if self._trust:
            self._trust.check(entry.value, f"commit {entry.seq} of {entry.model!r}")
        return entry


def model_names(store: Store) -> list[str]:
    """The names under which there is anything about a model, in no order."""
    names = (name.removeprefix(MODELS).rstrip("/") for name in store.list(MODELS) if name.endswith("/"))
    return [name for name in names if is_name(name)]


def checkpoints_of(store: Store, model: str) -> list[int]:
    """The commits of which there are checkpoints, in no order."""
    places = (parse_checkpoint_key(key) for key in store.list(checkpoint_prefix(model)))
    return [place[1] for place in places if place]


def _spread(attempt: int) -> float:
    """Over how many attempts' time the losers of a race spread: more while it seems to be a crowd, then less, so that nobody starves."""
    return 2.0 ** (attempt if attempt < _CROWD else _CROWD - (attempt - _CROWD) / 4)


def _hole(model: str, seq: int, beyond: int) -> CorruptError:
    return CorruptError(f"commit {seq} of {model!r} is missing, while the log goes on with commit {beyond}: run verify")
