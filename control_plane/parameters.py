"""Query parameters that several calls share, as they are read."""

import re
from datetime import datetime

from control_plane.errors import ParameterError
from registry.times import parse_time

_OFFSET = re.compile(r" (\d\d:?\d\d)$")


def time_parameter(name: str, text: str) -> datetime:
    """The point in time that parameter `name` says.

    Raises:
        ParameterError: if it is not ISO 8601.
    """
    try:
        # A "+" that was not percent-encoded arrives as a space.
        return parse_time(_OFFSET.sub(r"+\1", text) if "T" in text else text)
    except (ValueError, OverflowError) as error:
        raise ParameterError(f"{name}={text[:40]!r} is not a time: write it as 2026-01-31T12:00:00Z") from error
