"""Which rows are asked for, and how old they have to be. Values alone; the clock is handed in."""

import datetime as dt
import re
from dataclasses import dataclass

from control_plane.errors import ParameterError

DEFAULT_SPAN = dt.timedelta(days=30)
DEFAULT_MATURE = "1d"
_AGE = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Span:
    """Rows asked from `start` on and before `end`, judged if asked before `mature_before`; all in UTC."""

    start: dt.datetime
    end: dt.datetime
    mature_before: dt.datetime


def parse_age(text: str) -> dt.timedelta:
    """`90s`, `30m`, `12h` or `7d`.

    Raises:
        ParameterError: for any other text.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise ParameterError(f"{text[:40]!r} is no age: write 90s, 30m, 12h or 7d")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def span(now: dt.datetime, mature: dt.timedelta, start: dt.datetime | None = None, end: dt.datetime | None = None) -> Span:
    """The rows from `start`, else 30 days before now or before `end`, to `end`, else all later ones; mature if older than `mature`.

    Raises:
        ParameterError: if it ends before it starts, or lies before the year 1.
    """
    try:
        begins, mature_before = start or (end or now) - DEFAULT_SPAN, now - mature
    except OverflowError as error:
        raise ParameterError("that is before the year 1: choose a later time or a smaller age") from error
    if end is not None and end <= begins:
        raise ParameterError(f"from {begins.isoformat()} until {end.isoformat()} holds nothing")
    return Span(begins, end or dt.datetime.max.replace(tzinfo=dt.UTC), mature_before)
