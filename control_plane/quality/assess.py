"""From the name of a model to the quality of one of its versions: which version is meant, and its rows judged.

It brings DuckDB and scipy, so it is imported only where quality is asked for.
"""

from dataclasses import dataclass

from control_plane.errors import ScoreMissingError
from control_plane.parameters import version_parameter
from control_plane.quality.join import Logs, read_rows
from control_plane.quality.report import Report, report
from control_plane.quality.span import Span
from registry import bundle
from registry.registry import Registry


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
    version = version_parameter(registry.state(model), label)
    signature = bundle.parse_signature(registry.read(model, version, bundle.SIGNATURE))
    if signature.positive not in signature.classes:
        raise ScoreMissingError(f"version {version} of {model!r} names no positive class: only the quality of classifiers is told")
    rows = read_rows(logs, model, version, signature, asked.start, asked.end)
    return Quality(model, version, signature.positive, asked, report(rows, asked.mature_before))
