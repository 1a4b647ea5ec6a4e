"""Quality: what the labels that came in say about a version, what is estimated without them, and how many there are."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Query, board, choice, graph

_VERSION = 'model=~"$model"'
_NAME = "{{model}} {{version}}"


def quality() -> Dashboard:
    """The dashboard."""
    panels = (
        graph(
            "AUC",
            "Of the rows whose outcome is known, estimated from the scores alone, and at evaluation.",
            "none",
            Query(_each("quality_auc"), f"{_NAME} measured"),
            Query(_each("quality_auc_estimate"), f"{_NAME} estimated"),
            Query(_each("evaluation_auc"), f"{_NAME} at evaluation"),
        ),
        graph("Log loss", "Of the rows whose outcome is known.", "none", Query(_each("quality_log_loss"), _NAME)),
        graph(
            "Coverage",
            "Share of the predictions old enough to have a label that have one: measured quality speaks for these alone.",
            "percentunit",
            Query(_each("quality_coverage"), _NAME),
        ),
        graph("Labelled rows", "Rows that measured quality rests on.", "short", Query(_each("quality_labelled_rows"), _NAME)),
        graph(
            "Labels that came in",
            "Per second, by what became of them.",
            "reqps",
            Query(f"sum by (model, result) (rate(tidegate_feedback_total{{{_VERSION}}}[$__rate_interval]))", "{{model}}: {{result}}"),
        ),
        graph(
            "Prediction log",
            "Rows per second that were written, and that should have been and were not: what was not logged cannot be joined with labels.",
            "short",
            Query("sum(rate(tidegate_prediction_log_rows_total[$__rate_interval]))", "written"),
            Query("sum by (reason) (rate(tidegate_prediction_log_dropped_total[$__rate_interval]))", "dropped: {{reason}}"),
        ),
    )
    models = choice("model", "Model", "label_values(tidegate_model_info, model)", everything=True)
    return board("quality", "Measured and estimated quality of the versions that answer.", [models], panels, since="now-7d")


def _each(metric: str) -> str:
    return f"max by (model, version) (tidegate_{metric}{{{_VERSION}}})"
