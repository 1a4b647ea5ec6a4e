"""Query parameters that several calls share, as they are read."""

import re
from datetime import datetime

from control_plane.errors import ParameterError
from registry.errors import VersionUnknownError
from registry.names import PRODUCTION, STAGING
from registry.state import ModelState
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


def version_parameter(state: ModelState, version: str) -> int:
    """The number of the version that `version` means: a number or a stage, production if it is empty.

    Raises:
        ParameterError: if it is neither.
        VersionUnknownError: if there is no such version.
    """
    if version in {"", PRODUCTION, STAGING}:
        number = state.staging if version == STAGING else state.production
        if number is None:
            raise VersionUnknownError(f"model {state.model!r} has no version in {version or PRODUCTION}")
        return number
    if not (version.isascii() and version.isdigit() and len(version) < 10):  # noqa: PLR2004 -- no log is as long
        raise ParameterError(f"version={version[:40]!r} is no version: write its number, {STAGING} or {PRODUCTION}")
    return state.version(int(version)).number
