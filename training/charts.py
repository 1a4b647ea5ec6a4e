"""The charts of a model card: Altair drawn to SVG text that needs nothing from anywhere else. What else a card says is for `cards`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from training.imports import quietly

if TYPE_CHECKING:
    from types import ModuleType

    import altair as alt
    from numpy.typing import NDArray

    from training.search import Found

_WIDTH, _HEIGHT = 460, 240
_BINS = 10
_INK, _FAINT = "#1f4e79", "#9aa5b1"


@dataclass(frozen=True)
class Chart:
    """A drawing: `svg` is text, `alt` says in words what it shows."""

    title: str
    svg: str
    alt: str


def draw(
    outcome: NDArray[np.int64], score: NDArray[np.float32], groups: NDArray[np.object_], by: str, threshold: float, found: Found
) -> tuple[Chart, ...]:
    """All charts of a card from the held-out `outcome`, P(positive) `score` and the `groups` [n] to compare, named `by`, and the search."""
    return (
        _distribution(score, groups, by, threshold),
        _calibration(outcome, score),
        _search(found),
    )


def _distribution(score: NDArray[np.float32], groups: NDArray[np.object_], by: str, threshold: float) -> Chart:
    alt = _altair()
    edges = np.linspace(0, 1, 2 * _BINS + 1)
    names = sorted({str(group) for group in groups} - {""})
    frame = pd.concat(
        pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": _shares(score[groups == name], edges), "group": name})
        for name in names
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(opacity=0.6, binSpacing=0)
        .encode(
            x=alt.X("low:Q", bin="binned", title="P(positive)", scale=alt.Scale(domain=[0, 1])),
            x2="high:Q",
            y=alt.Y("share:Q", stack=None, title="share of the group", axis=alt.Axis(format="%")),
            color=alt.Color("group:N", title=by, scale=alt.Scale(range=[_INK, "#e07b39", "#5b8c5a", "#8a6fb0"])),
        )
    )
    rule = alt.Chart(pd.DataFrame({"x": [threshold]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    above = ", ".join(f"{name}: {(score[groups == name] >= threshold).mean():.0%}" for name in names)
    return _chart(
        "Scores by group", bars + rule, f"Histogram of held-out scores by {by}. At or above the threshold {threshold:g} lie {above}."
    )


def _shares(score: NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.histogram(score, edges)[0] / len(score)


def _calibration(outcome: NDArray[np.int64], score: NDArray[np.float32]) -> Chart:
    alt = _altair()
    parts = [part for part in np.array_split(np.argsort(score, kind="stable"), _BINS) if part.size]
    frame = pd.DataFrame(
        {"predicted": [float(score[part].mean()) for part in parts], "observed": [float(outcome[part].mean()) for part in parts]}
    )
    top = float(min(1.0, np.ceil(frame.to_numpy().max() * 10) / 10))
    scale = alt.Scale(domain=[0, top])
    curve = (
        alt.Chart(frame)
        .mark_line(point=True, color=_INK)
        .encode(
            x=alt.X("predicted:Q", title="mean predicted probability", scale=scale),
            y=alt.Y("observed:Q", title="observed share", scale=scale),
        )
    )
    ideal = alt.Chart(pd.DataFrame({"at": [0.0, top]})).mark_line(strokeDash=[4, 4], color=_FAINT).encode(x="at:Q", y="at:Q")
    gap = float((frame["predicted"] - frame["observed"]).abs().max())
    alt_text = (
        f"Predicted against observed share of positives in {len(parts)} equal parts of the held-out rows; they differ by at most {gap:.2f}."
    )
    return _chart("Calibration", ideal + curve, alt_text)


def _search(found: Found) -> Chart:
    alt = _altair()
    scores = [trial.score for trial in found.trials]
    frame = pd.DataFrame({"trial": [trial.number + 1 for trial in found.trials], "auc": scores, "best": np.maximum.accumulate(scores)})
    x = alt.X("trial:Q", title="trial", axis=alt.Axis(tickMinStep=1, format="d"))
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=60, color=_FAINT)
        .encode(x=x, y=alt.Y("auc:Q", title="AUC", scale=alt.Scale(zero=False)))
    )
    best = alt.Chart(frame).mark_line(interpolate="step-after", color=_INK).encode(x=x, y="best:Q")
    return _chart(
        "Search", points + best, f"Cross-validated AUC of {len(scores)} trials, and the best so far; the best is {max(scores):.3f}."
    )


def _altair() -> ModuleType:
    import altair  # noqa: ICN001, PLC0415 - only a card needs it

    return altair


def _chart(title: str, layers: alt.LayerChart, alt_text: str) -> Chart:
    with quietly():
        import vl_convert  # noqa: PLC0415 - the same
    sized = layers.properties(width=_WIDTH, height=_HEIGHT, background="white")
    return Chart(title, str(vl_convert.vegalite_to_svg(sized.to_json())), alt_text)
