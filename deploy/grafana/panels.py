"""The few kinds of panel that the dashboards are made of, and what all dashboards have in common. Knows no metric of ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import barchart, bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef("prometheus", "${datasource}")
_HEIGHT = 8


@dataclass(frozen=True)
class Query:
    """An expression, and how its series are called."""

    expr: str
    legend: str


def graph(
    title: str, text: str, unit: str, *queries: Query, limits: Sequence[float] = (), width: int = 12, stacked: bool = False
) -> timeseries.Panel:
    """Values over time; `limits` are drawn as lines, the last as the graver one."""
    panel = (
        timeseries.Panel().title(title).description(text).unit(unit).datasource(SOURCE).span(width).height(_HEIGHT).min(0).legend(_legend())
    )
    for place, query in enumerate(queries):
        panel = panel.with_target(_target(query, place).range())
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.LINE)
        panel = panel.thresholds(_limits(limits)).thresholds_style(style)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.PERCENT)).fill_opacity(60)
    return panel


def number(title: str, text: str, unit: str, query: Query, limits: Sequence[float] = (), width: int = 6) -> stat.Panel:
    """The present value of each series as a number; from `limits` on in warning colours."""
    panel = stat.Panel().title(title).description(text).unit(unit).datasource(SOURCE).span(width).height(_HEIGHT // 2)
    return panel.thresholds(_limits(limits)).reduce_options(_last()).with_target(_target(query, 0).instant())


def bars(title: str, text: str, unit: str, query: Query, limits: Sequence[float] = (), width: int = 12) -> bargauge.Panel:
    """The present value of each series as a bar."""
    panel = bargauge.Panel().title(title).description(text).unit(unit).datasource(SOURCE).span(width).height(_HEIGHT).min(0)
    panel = panel.orientation(common_models.VizOrientation.HORIZONTAL).thresholds(_limits(limits)).reduce_options(_last())
    return panel.with_target(_target(query, 0).instant())


def rows(title: str, text: str, query: Query, width: int = 12) -> table.Panel:
    """The labels of each present series as a row of a table."""
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(width).height(_HEIGHT).show_header(True)
    hidden = models.DataTransformerConfig("organize", options={"excludeByName": {"Time": True, "Value": True}})
    return panel.with_target(_target(query, 0).instant().format(PromQueryFormat.TABLE)).with_transformation(hidden)


def side_by_side(title: str, text: str, unit: str, field: str, first: Query, second: Query, width: int = 24) -> barchart.Panel:
    """The present values of two queries beside each other, for each value of the label `field`."""
    panel = barchart.Panel().title(title).description(text).unit(unit).datasource(SOURCE).span(width).height(_HEIGHT + 2).min(0)
    for place, query in enumerate((first, second)):
        panel = panel.with_target(_target(query, place).instant().format(PromQueryFormat.TABLE))
    names = {"Value #A": first.legend, "Value #B": second.legend}
    hidden = {"Time": True, "Time 1": True, "Time 2": True}
    return (
        panel.x_field(field)
        .x_tick_label_rotation(-45)
        .with_transformation(models.DataTransformerConfig("joinByField", options={"byField": field, "mode": "outer"}))
        .with_transformation(models.DataTransformerConfig("organize", options={"excludeByName": hidden, "renameByName": names}))
    )


def choice(name: str, label: str, query: str, *, everything: bool = False) -> dashboard.QueryVariable:
    """A variable whose values Prometheus has; `everything` lets all of them be chosen at once, and is what it begins with."""
    variable = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query({"query": query, "refId": name})
    variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    if everything:
        return variable.multi(True).include_all(True).all_value(".*").current(models.VariableOption(text="All", value="$__all"))
    return variable


def fixed_choice(name: str, label: str, values: Sequence[str]) -> dashboard.CustomVariable:
    """A variable that has one of these values, at first the first."""
    return (
        dashboard.CustomVariable(name).label(label).values(",".join(values)).current(models.VariableOption(text=values[0], value=values[0]))
    )


def board(
    uid: str, text: str, variables: Sequence[Builder[models.VariableModel]], panels: Sequence[Builder[models.Panel]], since: str = "now-6h"
) -> models.Dashboard:
    """A dashboard of panels in reading order; it is read only, as its file is generated."""
    others = dashboard.DashboardLink("Tidegate").type(models.DashboardLinkType.DASHBOARDS).tags(["tidegate"])
    made = (
        dashboard.Dashboard(f"Tidegate: {uid}")
        .uid(f"tidegate-{uid}")
        .description(text)
        .tags(["tidegate"])
        .readonly()
        .time(since, "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(others.include_vars(True).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        made = made.with_variable(variable)
    for panel in panels:
        made = made.with_panel(panel)
    built = made.build()
    for place, built_panel in enumerate(built.panels or []):
        built_panel.id_val = place + 1
    return built


def _target(query: Query, place: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id("ABCDEFGH"[place]).expr(query.expr).legend_format(query.legend).datasource(SOURCE)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _legend() -> common.VizLegendOptions:
    modes, places = common_models.LegendDisplayMode, common_models.LegendPlacement
    return common.VizLegendOptions().show_legend(True).display_mode(modes.LIST).placement(places.BOTTOM)


def _limits(limits: Sequence[float]) -> dashboard.ThresholdsConfig:
    colours = ["yellow", "red"][-len(limits) :] if limits else []
    steps = [models.Threshold(None, "green"), *(models.Threshold(limit, colour) for limit, colour in zip(limits, colours, strict=True))]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
