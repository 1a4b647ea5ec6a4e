"""Values with their intervals as points on a page, and in words: AUC day by day, calibration bin by bin. Pure; the template writes SVG."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from control_plane.quality.measures import Figure
    from control_plane.quality.report import Report

WIDTH, HEIGHT, SIDE, _MARGIN = 640, 160, 240, 6
_CHANCE = 0.5
"""AUC of scores that say nothing: the lowest that is drawn, unless a day was worse"""


@dataclass(frozen=True)
class Point:
    """One value and its interval, in a picture whose y grows downwards: `high_y <= y <= low_y`."""

    text: str
    x: float
    y: float
    low_y: float
    high_y: float


@dataclass(frozen=True)
class Guide:
    """The line that points are held to."""

    text: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Chart:
    """Points in a picture. `text` says what it shows to who does not see it, `rows` has everything in words, what has no point too."""

    title: str
    text: str
    points: tuple[Point, ...]
    guide: Guide
    rows: tuple[tuple[str, str], ...]
    width: int
    height: int


def auc_by_day(report: "Report") -> Chart:
    """AUC of the rows asked on each day in UTC; a day without an AUC is in words alone. The guide is that of all days."""
    known = [(cohort.day, cohort.judgement.auc) for cohort in report.cohorts if cohort.judgement.auc.value is not None]
    total = report.total.auc
    level, meaning = (_CHANCE, "scores that say nothing") if total.value is None else (total.value, f"all days, {words(total)}")
    floor = min(_CHANCE, level, *(_interval(auc)[0] for _, auc in known))
    first, days = (known[0][0], (known[-1][0] - known[0][0]).days) if known else (None, 0)
    places = [(day - first).days / days if first and days else 0.5 for day, _ in known]
    points = [_point(f"{day}: {words(auc)}", place, auc, floor, WIDTH, HEIGHT) for place, (day, auc) in zip(places, known, strict=True)]
    height = _down(level, floor, HEIGHT)
    return Chart(
        title=f"AUC by day, from {floor:.2f} at the bottom to 1 at the top, with intervals of 95 %",
        text=" ".join([f"AUC of {len(known)} days is known.", *(f"The last is {point.text}." for point in points[-1:])]),
        points=tuple(points),
        guide=Guide(meaning, 0, height, WIDTH, height),
        rows=tuple((str(one.day), f"{words(one.judgement.auc)}, {one.judgement.judged} rows") for one in report.cohorts),
        width=WIDTH,
        height=HEIGHT,
    )


def calibration(report: "Report") -> Chart:
    """The share of positives in each bin of scores over their mean. The guide is where both are equal."""
    texts = [f"score {one.mean_score:.3f}, positive {words(one.share)}" for one in report.bins]
    points = [_point(text, one.mean_score, one.share, 0.0, SIDE, SIDE) for text, one in zip(texts, report.bins, strict=True)]
    return Chart(
        title="Calibration: share of positives over mean score, both from 0 to 1, with intervals of 95 %",
        text=_misses(report),
        points=tuple(points),
        guide=Guide("scores that mean what they say", _across(0, SIDE), _down(0, 0, SIDE), _across(1, SIDE), _down(1, 0, SIDE)),
        rows=tuple((f"{one.low:.3f} to {one.high:.3f}", f"{text}, {one.rows} rows") for text, one in zip(texts, report.bins, strict=True)),
        width=SIDE,
        height=SIDE,
    )


def words(figure: "Figure") -> str:
    """`0.812 [0.774, 0.850]`, or why there is no value or no interval."""
    if figure.value is None:
        return f"unknown ({figure.reason})"
    low, high = _interval(figure)
    return f"{figure.value:.3f} " + (f"({figure.reason})" if figure.reason else f"[{low:.3f}, {high:.3f}]")


def _interval(figure: "Figure") -> tuple[float, float]:
    value = figure.value or 0.0
    return (value if figure.low is None else figure.low), (value if figure.high is None else figure.high)


def _misses(report: "Report") -> str:
    if not report.bins:
        return "No row has a label and a score."
    worst = max(report.bins, key=lambda one: abs((one.share.value or 0.0) - one.mean_score))
    return f"The mean miss is {report.calibration_error:.3f}. Farthest off: score {worst.mean_score:.3f}, positive {words(worst.share)}."


def _point(text: str, place: float, figure: "Figure", floor: float, width: int, height: int) -> Point:
    low, high = _interval(figure)
    levels = (_down(value, floor, height) for value in (figure.value or 0.0, low, high))
    return Point(text, _across(place, width), *levels)


def _across(place: float, width: int) -> float:
    return round(_MARGIN + place * (width - 2 * _MARGIN), 1)


def _down(value: float, floor: float, height: int) -> float:
    share = (value - floor) / (1 - floor)
    return round(height - _MARGIN - share * (height - 2 * _MARGIN), 1)
