"""One numbered entry of a model's log: its value, its bytes, its place in the hash chain. No I/O and no rules here."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from registry import canonical, sealing
from registry.canonical import JsonObject
from registry.fields import integer, reading, record, text
from registry.names import check_digest
from registry.sealing import Sign, unsigned
from registry.times import format_time, parse_time

FORMAT = "tidegate.commit/1"


class Kind(StrEnum):
    """What a commit changes."""

    REGISTERED = "registered"
    EVIDENCE = "evidence"
    APPROVED = "approved"
    STAGED = "staged"
    ROUTED = "routed"
    ROLLED_BACK = "rolled_back"
    SIGNED_OFF = "signed_off"
    OVERRIDDEN = "overridden"
    RETIRED = "retired"
    NOTED = "noted"


@dataclass(frozen=True)
class Change:
    """What someone asks for: a commit that has no number and no predecessor yet."""

    kind: Kind
    payload: JsonObject
    actor: str
    reason: str


@dataclass(frozen=True)
class Commit:
    """A change at its place in the log.

    `previous` is the sha256 of the bytes of commit `seq - 1` (None for the first); `digest` that of this commit's own bytes; `raw` are
    those bytes, so that fields a later release added survive being read and written by this one.
    """

    model: str
    seq: int
    previous: str | None
    time: datetime
    change: Change
    raw: bytes

    @cached_property
    def digest(self) -> str:
        """The sha256 that the next commit names as its predecessor."""
        return canonical.digest(self.raw)

    @property
    def kind(self) -> Kind:
        """What it changes."""
        return self.change.kind

    @property
    def payload(self) -> JsonObject:
        """The arguments of the change, by kind."""
        return self.change.payload

    @property
    def value(self) -> JsonObject:
        """All fields, as they were written: what a signature covers."""
        return canonical.decode(self.raw, "a commit")


def at_place(
    change: Change, *, model: str, seq: int, previous: str | None, time: datetime, nonce: str = "", sign: Sign = unsigned
) -> Commit:
    """Give a change its place in a log.

    The `nonce` is random: two writers that say the same in the same microsecond still write different bytes, so that one who was not told
    whether its write succeeded can look.

    Raises:
        FormatError: if the change holds what JSON cannot.
    """
    value: JsonObject = {
        "format": FORMAT,
        "model": model,
        "seq": seq,
        "previous": previous,
        "time": format_time(time),
        "kind": change.kind.value,
        "actor": change.actor,
        "reason": change.reason,
        "payload": change.payload,
        **({"nonce": nonce} if nonce else {}),
    }
    return parse(sealing.seal(sign(value)))


def parse(raw: bytes) -> Commit:
    """Read a commit from its bytes; `parse(commit.raw) == commit`.

    Raises:
        FormatError: if it is not a commit of a format and kind this release knows, or its bytes changed since they were written.
    """
    # The next commit vouches for this one; the checksum finds a flipped bit in the newest, which has no next.
    value = sealing.unseal(raw, FORMAT, "a commit")
    with reading("a commit"):
        return Commit(
            model=text(value, "model"),
            seq=integer(value, "seq", 1),
            previous=None if value["previous"] is None else check_digest(text(value, "previous")),
            time=parse_time(text(value, "time")),
            change=Change(Kind(text(value, "kind")), record(value, "payload"), text(value, "actor"), text(value, "reason")),
            raw=raw,
        )
