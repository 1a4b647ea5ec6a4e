"""From the name of a model to the quality of one of its versions: which version is meant, and its rows judged.

It brings DuckDB and scipy, so it is imported only where quality is asked for.
"""

from dataclasses import dataclass

from control_plane.errors import ParameterError, ScoreMissingError
from control_plane.quality.join import Logs, read_rows
from control_plane.quality.report import Report, report
from control_plane.quality.span import Span
from registry import bundle
from registry.errors import VersionUnknownError
from registry.names import PRODUCTION, STAGING
from registry.registry import Registry
from registry.state import ModelState


@dataclass(frozen=True)
class Quality:
    """The quality of one version: what it was worth, and over which rows."""

    model: str
    version: int
    positive: str
    span: Span
    report: Report


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
    return Quality(model, version, signature.positive, asked, report(rows, asked.mature_before))


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
