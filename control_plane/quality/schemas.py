"""What is told and answered about quality, as JSON."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from control_plane.quality.assess import Quality
from tidegate_client import Label, Receipt


class LabelIn(BaseModel):
    """What turned out to be true of one row of a prediction."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prediction_id: str
    row: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    label: StrictStr | StrictInt | StrictFloat
    """the name of a class as text; a number for a model without classes"""
    observed: AwareDatetime | None = None
    """when it was known: ISO 8601 with an offset, or seconds since 1970; now without"""


class LabelsIn(BaseModel):
    """Labels of one model."""

    model_config = ConfigDict(extra="forbid")

    model: str
    labels: tuple[LabelIn, ...]

    def to_sdk(self) -> tuple[Label, ...]:
        """As the client takes them."""
        return tuple(Label(one.prediction_id, one.label, one.row, one.observed) for one in self.labels)


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class RefusedLabelView(_View):
    """A label that was not kept: its place among those sent, from 0, and why."""

    index: int
    reason: str


class ReceiptView(_View):
    """What became of the labels; only the first hundred refusals are told."""

    recorded: int
    duplicate: int
    """stood among them twice, kept once"""
    refused: int
    refusals: tuple[RefusedLabelView, ...]


class FigureView(_View):
    """A value and its interval of 95 %; null where they are not defined, and why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str


class BinView(_View):
    """The rows whose scores are from `low` to `high`: what they promised, and the share of positives among them."""

    low: float
    high: float
    rows: int
    mean_score: float
    share: FigureView


class EstimateView(_View):
    """What AUC and accuracy should be if scores mean what they say: without labels, and blind to a change of what inputs mean."""

    estimate: Literal[True] = True
    rows: int
    auc: float | None
    accuracy: float | None
    recalibrated_by: int
    """labelled rows that scores were recalibrated by; 0: taken as they are"""


class JudgementView(_View):
    """Some rows and what they were worth; see `control_plane.quality.report.Judgement`."""

    rows: int
    """old enough to be judged"""
    immature: int
    labelled: int
    judged: int
    """with a label and a usable score: what the figures are of"""
    positives: int
    coverage: float | None
    """labelled of rows"""
    auc: FigureView
    log_loss: FigureView
    """nats"""
    brier: FigureView
    accuracy: FigureView
    estimate: EstimateView


class CohortView(_View):
    """The rows asked on one day in UTC."""

    day: dt.date
    judgement: JudgementView


class LabelsView(_View):
    """The feedback log of the model, whatever the time asked for."""

    lines: int
    duplicate: int
    """lines that say of a row what another one says too"""
    replaced: int
    """lines that a later one of the same row contradicts"""
    unknown: int
    """labelled rows whose prediction is not in the log"""


class QualityView(_View):
    """The quality of one version."""

    model: str
    version: int
    positive: str
    since: dt.datetime
    until: dt.datetime | None
    mature_before: dt.datetime
    total: JudgementView
    calibration_error: float | None
    bins: tuple[BinView, ...]
    cohorts: tuple[CohortView, ...]
    unscored: int
    """mature rows whose score is no probability"""
    foreign: int
    """mature rows whose label is no class of the version"""
    repeated: int
    """rows answered more than once under one id: the first answer counts"""
    early: int
    """rows whose label is older than their answer"""
    labels: LabelsView


def quality_view(quality: Quality) -> QualityView:
    """A quality, all of it."""
    found, asked = quality.report, quality.span
    return QualityView(
        model=quality.model,
        version=quality.version,
        positive=quality.positive,
        since=asked.start,
        until=None if asked.end.date() == dt.date.max else asked.end,
        mature_before=asked.mature_before,
        total=JudgementView.model_validate(found.total),
        calibration_error=found.calibration_error,
        bins=tuple(map(BinView.model_validate, found.bins)),
        cohorts=tuple(map(CohortView.model_validate, found.cohorts)),
        unscored=found.unscored,
        foreign=found.foreign,
        repeated=found.repeated,
        early=found.early,
        labels=LabelsView.model_validate(quality.labels),
    )


def receipt_view(receipt: Receipt) -> ReceiptView:
    """A receipt, all of it."""
    return ReceiptView.model_validate(receipt)
