"""Drift: how far every feature of a version moved, over the whole fleet, and its bins beside those of the reference."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Query, bars, board, choice, fixed_choice, graph, number, side_by_side

_VERSION = 'model="$model",version="$version"'
_FEATURE = f'{_VERSION},feature="$feature"'
_PSI, _KS = (0.1, 0.2), (0.1,)
"""The usual limits; those of a version stand in its profile."""


def drift() -> Dashboard:
    """The dashboard."""
    panels = (
        number(
            "Detected",
            "1 if a daemon sees drift that lasts.",
            "bool_yes_no",
            Query(f"max(tidegate_drift_detected{{{_VERSION}}})", "drift"),
            limits=(1,),
        ),
        number(
            "Rows",
            "Production rows that were counted in the time shown.",
            "short",
            Query(f"sum(increase(tidegate_drift_rows_total{{{_VERSION}}}[$__range]))", "rows"),
        ),
        number("Rows of the reference", "", "short", Query(f"max(tidegate_drift_reference_rows{{{_VERSION}}})", "rows")),
        number(
            "Features not exported",
            "Beyond the limit of the daemons, the least important ones: GetDrift has them all the same.",
            "short",
            Query(f"max(tidegate_drift_features_omitted{{{_VERSION}}})", "features"),
            limits=(1,),
        ),
        graph(
            "PSI over the fleet",
            "Population stability index of each feature in windows of this length, from the counts of all daemons.",
            "none",
            Query(f"tidegate:drift_psi:$window{{{_VERSION}}}", "{{feature}}"),
            limits=_PSI,
        ),
        graph(
            "KS over the fleet",
            "Largest difference of the distribution functions of each numeric feature, in the same windows.",
            "percentunit",
            Query(f"tidegate:drift_ks:$window{{{_VERSION}}}", "{{feature}}"),
            limits=_KS,
        ),
        bars(
            "PSI since the version was loaded",
            "The twenty features that moved most, at the daemon where they moved most.",
            "none",
            Query(f'topk(20, max by (feature) (tidegate_drift_psi{{{_VERSION},window="all"}}))', "{{feature}}"),
            limits=_PSI,
        ),
        bars(
            "KS since the version was loaded",
            "The same for the largest difference of the distribution functions.",
            "percentunit",
            Query(f'topk(20, max by (feature) (tidegate_drift_ks{{{_VERSION},window="all"}}))', "{{feature}}"),
            limits=_KS,
        ),
        side_by_side(
            "Bins of $feature",
            "Share of the rows in each bin, in the time shown and in the reference. A number is the upper edge of its bin.",
            "percentunit",
            "bin",
            Query(_share(f"{_FEATURE}", "bin", "$__range"), "observed"),
            Query(f"max by (bin) (tidegate_drift_reference_share{{{_FEATURE}}})", "reference"),
        ),
        graph(
            "Bins of $feature over time",
            "Share of the rows in each bin: a change of distribution is a change of the bands.",
            "short",
            Query(f"sum by (bin) (rate(tidegate_drift_bin_total{{{_FEATURE}}}[$__rate_interval]))", "{{bin}}"),
            stacked=True,
        ),
        graph(
            "Missing values",
            "Share of the rows that have no value, by feature.",
            "percentunit",
            Query(
                f'sum by (feature) (rate(tidegate_drift_bin_total{{{_VERSION},bin="missing"}}[$__rate_interval]))'
                f" / sum by (feature) (rate(tidegate_drift_bin_total{{{_VERSION}}}[$__rate_interval]))",
                "{{feature}}",
            ),
        ),
    )
    variables = [
        choice("model", "Model", "label_values(tidegate_drift_rows_total, model)"),
        choice("version", "Version", 'label_values(tidegate_drift_rows_total{model="$model"}, version)'),
        choice("feature", "Feature", f"label_values(tidegate_drift_bin_total{{{_VERSION}}}, feature)"),
        fixed_choice("window", "Window", ("1h", "6h", "24h")),
    ]
    return board("drift", "How far the features of a version moved from its reference.", variables, panels, since="now-24h")


def _share(series: str, label: str, window: str) -> str:
    counted = f"sum by ({label}) (increase(tidegate_drift_bin_total{{{series}}}[{window}]))"
    return f"{counted} / scalar(sum(increase(tidegate_drift_bin_total{{{series}}}[{window}])))"
