"""One numbered entry of a model's log: its value, its bytes, its place in the hash chain. No I/O and no rules here."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from registry import canonical
from registry.canonical import JsonObject
from registry.errors import FormatError

FORMAT = "tidegate.commit/1"


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

    `previous` is the sha256 of the bytes of commit `seq - 1` (None for the first); `digest` that of this commit's own bytes; `raw` are those bytes, so
    that fields a later release added survive being read and written by this one.
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
    """Give a change its place in a log."""
    raw = canonical.encode(
        {
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
    )
    return Commit(model, seq, previous, time.astimezone(UTC), change, raw)


def parse(raw: bytes) -> Commit:
    """Read a commit from its bytes; `parse(commit.raw) == commit`.

    Raises:
        FormatError: if it is not a commit of a format and kind this release knows.
    """
    value = canonical.expect_format(canonical.decode(raw, "a commit"), FORMAT, "a commit")
    try:
        return Commit(
            model=_text(value, "model"),
            seq=_number(value, "seq"),
            previous=None if value["previous"] is None else _text(value, "previous"),
            time=parse_time(_text(value, "time")),
            change=Change(Kind(_text(value, "kind")), _object(value, "payload"), _text(value, "actor"), _text(value, "reason")),
            raw=raw,
        )
    except (KeyError, ValueError) as error:
        raise FormatError(f"a commit has a missing or wrong field: {error}") from error


def format_time(time: datetime) -> str:
    """UTC with microseconds, as `2026-01-31T12:00:00.000000Z`: sorts as text."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """A point in time from ISO 8601; without an offset it is taken as UTC.

    Raises:
        ValueError: if it is not ISO 8601.
    """
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _text(value: JsonObject, key: str) -> str:
    item = value[key]
    if not isinstance(item, str):
        raise ValueError(f"{key} is not text")
    return item


def _number(value: JsonObject, key: str) -> int:
    item = value[key]
    if isinstance(item, bool) or not isinstance(item, int):
        raise ValueError(f"{key} is not an integer")
    return item


def _object(value: JsonObject, key: str) -> JsonObject:
    item = value[key]
    if not isinstance(item, dict):
        raise ValueError(f"{key} is not an object")
    return item
