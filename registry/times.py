"""Points in time as the registry writes them. No clock here."""

from datetime import UTC, datetime


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
