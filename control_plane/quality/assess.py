"""From the name of a model to the quality of one of its versions: which version is meant, which rows are asked for, and both logs read."""

import datetime as dt
import re
from dataclasses import dataclass

from control_plane.errors import ParameterError, ScoreMissingError
from control_plane.quality.join import LabelCounts, Logs, count_labels, read_rows
from control_plane.quality.report import Report, report
from registry import bundle
from registry.errors import VersionUnknownError
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.state import ModelState

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


@dataclass(frozen=True)
class Quality:
    """The quality of one version: what it was worth, over which rows, and what its model's feedback log holds."""

    model: str
    version: int
    positive: str
    span: Span
    report: Report
    labels: LabelCounts


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
        ParameterError: if it ends before it starts.
    """
    begins = start or (end or now) - DEFAULT_SPAN
    if end is not None and end <= begins:
        raise ParameterError(f"from {begins.isoformat()} until {end.isoformat()} holds nothing")
    return Span(begins, end or dt.datetime.max.replace(tzinfo=dt.UTC), now - mature)


def assess(registry: Registry, logs: Logs, model: str, label: str, asked: Span) -> Quality:
    """The quality of the version that `label` means: a number, `staging` or `production`; empty for production.

    Raises:
        RegistryError: if there is no such model or version, or it cannot be read.
        QualityError: if it cannot be told.
        ParameterError: if `label` is none.
    """
    version = _number(registry.state(model), label)
    signature = bundle.parse_signature(registry.read(model, version, bundle.SIGNATURE))
    if signature.positive not in signature.classes:
        raise ScoreMissingError(f"version {version} of {model!r} names no positive class: only the quality of classifiers is told")
    rows = read_rows(logs, model, version, signature, asked.start, asked.end)
    return Quality(model, version, signature.positive, asked, report(rows, asked.mature_before), count_labels(logs, model))


def _number(state: ModelState, label: str) -> int:
    stages = {"": state.production, PRODUCTION: state.production, STAGING: state.staging}
    if label in stages:
        found = stages[label]
        if found is None:
            raise VersionUnknownError(f"model {state.model!r} has no version in {label or PRODUCTION}")
        return found
    if not (label.isascii() and label.isdigit() and len(label) < 20):  # noqa: PLR2004 -- more digits are no version
        raise ParameterError(f"version={label[:40]!r} is none: write a number, staging or production")
    return state.version(int(label)).number
