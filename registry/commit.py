"""One numbered entry of a model's log: its value, its bytes, its place in the hash chain. No I/O and no rules here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from registry import canonical
from registry.canonical import JsonObject
from registry.errors import FormatError
from registry.fields import integer, reading, record, text
from registry.names import check_digest

FORMAT = "tidegate.commit/1"
CHECKSUM = "checksum"
"""The sha256 of the canonical encoding of all other fields."""


class Kind(StrEnum):
    """What a commit changes."""

    REGISTERED = "registered"
    STAGED = "staged"
    ROUTED = "routed"
    ROLLED_BACK = "rolled_back"


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

    @property
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


def at_place(change: Change, *, model: str, seq: int, previous: str | None, time: datetime) -> Commit:
    """Give a change its place in a log.

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
    }
    return parse(canonical.encode({**value, CHECKSUM: _checksum(value)}))


def parse(raw: bytes) -> Commit:
    """Read a commit from its bytes; `parse(commit.raw) == commit`.

    Raises:
        FormatError: if it is not a commit of a format and kind this release knows, or its bytes changed since they were written.
    """
    value = canonical.expect_format(canonical.decode(raw, "a commit"), FORMAT, "a commit")
    # The next commit vouches for this one; the checksum finds a flipped bit in the newest, which has no next.
    if value.get(CHECKSUM) != _checksum(value) or canonical.encode(value) != raw:
        raise FormatError("a commit differs from its own checksum: its bytes changed after it was written")
    with reading("a commit"):
        return Commit(
            model=text(value, "model"),
            seq=integer(value, "seq", 1),
            previous=None if value["previous"] is None else check_digest(text(value, "previous")),
            time=parse_time(text(value, "time")),
            change=Change(Kind(text(value, "kind")), record(value, "payload"), text(value, "actor"), text(value, "reason")),
            raw=raw,
        )


def format_time(time: datetime) -> str:
    """UTC with microseconds, as `2026-01-31T12:00:00.000000Z`: sorts as text."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(written: str) -> datetime:
    """A point in time from ISO 8601; without an offset it is taken as UTC.

    Raises:
        ValueError: if it is not ISO 8601.
    """
    try:
        time = datetime.fromisoformat(written)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{written!r} is out of range") from error


def _checksum(value: JsonObject) -> str:
    return canonical.digest(canonical.encode({key: item for key, item in value.items() if key != CHECKSUM}))
