"""A notice of an alert, as a note in a log holds it. Values alone; who is told, and when, is Alertmanager's to say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from registry.canonical import JsonObject
from registry.commit import Commit, Kind
from registry.fields import mapping, reading, record, text
from registry.times import format_time, parse_time

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Between these a time can be written in any zone, and no rule begins to fire outside."""
_FINGERPRINT = re.compile("[0-9a-f]{16}")
ALERT = "alert"
"""Where it stands in the payload of a note."""


class Status(StrEnum):
    """Whether what an alert is about goes on."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Alert:
    """One notice about an alert.

    `fingerprint` is Alertmanager's hash of the labels; with the status and the time it began, it tells one notice from another.
    `ends_at` is None while it fires.
    """

    fingerprint: str
    status: Status
    starts_at: datetime
    ends_at: datetime | None
    labels: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise ValueError("fingerprint is not 16 hexadecimal digits")
        if not all(EARLIEST <= time < LATEST for time in (self.starts_at, self.ends_at or self.starts_at)):
            raise ValueError("an alert begins and ends between 1970 and 9999")

    @property
    def name(self) -> str:
        """The rule that it is an alert of; empty if its labels do not say."""
        return self.labels.get("alertname", "")

    @property
    def version(self) -> str:
        """The version that it is about; empty if its labels do not say."""
        return self.labels.get("version", "")

    def same_notice(self, other: "Alert") -> bool:
        """Whether both say the same, however often it is told."""
        return (self.fingerprint, self.status, self.starts_at) == (other.fingerprint, other.status, other.starts_at)

    def to_json(self) -> JsonObject:
        """As it stands in a note; `from_json(alert.to_json()) == alert`."""
        return {
            "fingerprint": self.fingerprint,
            "status": self.status.value,
            "starts_at": format_time(self.starts_at),
            **({} if self.ends_at is None else {"ends_at": format_time(self.ends_at)}),
            "labels": dict(self.labels),
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Raises FormatError if a field is missing or makes no sense."""
        with reading("an alert"):
            return cls(
                fingerprint=text(value, "fingerprint"),
                status=Status(text(value, "status")),
                starts_at=parse_time(text(value, "starts_at")),
                ends_at=parse_time(text(value, "ends_at")) if "ends_at" in value else None,
                labels=mapping(value, "labels", str),
            )


def noted_in(entry: Commit) -> Alert | None:
    """The alert that a commit notes, if it notes one.

    Raises:
        FormatError: if what stands there is no alert.
    """
    if entry.kind is not Kind.NOTED or ALERT not in entry.payload:
        return None
    with reading("a note"):
        return Alert.from_json(record(entry.payload, ALERT))
