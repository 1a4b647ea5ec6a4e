"""PSI, KS and AUC of every month side by side: Altair drawn to SVG that needs nothing from anywhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from control_plane.quality.measures import Figure
from registry.drift import FeatureDrift
from registry.drift_limits import Limits
from training.imports import quietly

WATCHED = ("temp", "hour", "score")
OTHERS = "other inputs"
_COLOURS = ("#c0392b", "#1f4e79", "#5b8c5a", "#b8bec6")
_INK = "#1f4e79"
_WIDTH, _HEIGHT = 270, 260


@dataclass(frozen=True)
class Judged:
    """A month as it turned out: what its counts say of each feature, and the AUC of its answers once the labels came."""

    month: str
    rows: int
    drift: tuple[FeatureDrift, ...]
    auc: Figure

    def of(self, feature: str) -> FeatureDrift:
        """What the counts of one feature say; KeyError if there is none."""
        return {found.name: found for found in self.drift}[feature]


def draw(months: Sequence[Judged], limits: Limits, held_out: float) -> str:
    """The SVG text; `held_out` is the AUC of the first quarter's rows that were kept from training."""
    frame = pd.DataFrame(
        {"month": month.month[-2:], "feature": found.name, "group": _group(found.name), "psi": found.psi, "ks": found.ks}
        for month in months
        for found in month.drift
    )
    figures = [{"month": month.month[-2:], "auc": month.auc.value, "low": month.auc.low, "high": month.auc.high} for month in months]
    panels = alt.hconcat(
        _lines(frame, "psi", "PSI (square root scale)", limits.psi).properties(title="Population stability index"),
        _lines(frame.dropna(subset=["ks"]), "ks", "largest distance of the distributions", limits.ks).properties(
            title="Kolmogorov-Smirnov"
        ),
        _auc(pd.DataFrame(figures), held_out).properties(title="AUC from late labels"),
    )
    with quietly():
        import vl_convert  # noqa: PLC0415 -- what it says while it is imported is not for the terminal
    return str(vl_convert.vegalite_to_svg(panels.properties(background="white").to_json()))


def _group(feature: str) -> str:
    return feature if feature in WATCHED else OTHERS


def _lines(frame: pd.DataFrame, value: str, title: str, limit: float) -> alt.LayerChart:
    colour = alt.Color("group:N", title=None, scale=alt.Scale(domain=[*WATCHED, OTHERS], range=list(_COLOURS)))
    scale = alt.Scale(type="sqrt") if value == "psi" else alt.Scale(domain=[0, 1])
    base = alt.Chart(frame).encode(x=_months(), y=alt.Y(f"{value}:Q", title=title, scale=scale), color=colour, detail="feature:N")
    # What is watched is drawn last, over the others.
    others = base.transform_filter(alt.datum.group == OTHERS).mark_line(strokeWidth=1)
    watched = base.transform_filter(alt.datum.group != OTHERS).mark_line(point=True, strokeWidth=2)
    layers: alt.LayerChart = others + watched + _rule(limit)
    return layers.properties(width=_WIDTH, height=_HEIGHT)


def _auc(frame: pd.DataFrame, held_out: float) -> alt.LayerChart:
    base = alt.Chart(frame).encode(x=_months())
    y = alt.Y("auc:Q", title="AUC", scale=alt.Scale(zero=False))
    sure = base.mark_rule(color=_INK).encode(y=alt.Y("low:Q", title="AUC"), y2="high:Q")
    layers: alt.LayerChart = sure + base.mark_line(point={"color": _INK}, color=_INK).encode(y=y) + _rule(held_out)
    return layers.properties(width=_WIDTH, height=_HEIGHT)


def _rule(value: float) -> alt.Chart:
    rule: alt.Chart = alt.Chart(pd.DataFrame({"at": [value]})).mark_rule(strokeDash=[4, 4], color="#555").encode(y="at:Q")
    return rule


def _months() -> alt.X:
    return alt.X("month:O", title="month of 2013", axis=alt.Axis(labelAngle=0))
