"""Serving: what callers ask, what they are answered, how fast, and what is left of the error budgets."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Query, board, choice, graph

_MODEL = 'model=~"$model"'
_FAST, _SLOW = 14.4, 6.0
"""Burn rates from which somebody is called: deploy/prometheus/rules/alerts.yml says for which windows."""


def serving() -> Dashboard:
    """The dashboard."""
    panels = (
        graph(
            "Requests",
            "Answered requests per second by gRPC status; shadows are not among them.",
            "reqps",
            Query(f'sum by (code) (rate(tidegate_requests_total{{{_MODEL},arm!="shadow"}}[$__rate_interval]))', "{{code}}"),
        ),
        graph(
            "Requests by version",
            "Answered requests per second by version and arm: what a canary or a shadow gets.",
            "reqps",
            Query(
                f"sum by (model, version, arm) (rate(tidegate_requests_total{{{_MODEL}}}[$__rate_interval]))",
                "{{model}} {{version}} {{arm}}",
            ),
        ),
        graph(
            "Latency",
            "From the arrival of a request to its answer, over all chosen models.",
            "s",
            *(Query(_quantile(share, "request_seconds"), f"{share:.0%}") for share in (0.5, 0.95, 0.99)),
        ),
        graph(
            "Where the time goes",
            "95 % of requests wait at most so long in the queue; 95 % of batches run at most so long in the engine.",
            "s",
            Query(_quantile(0.95, "queue_seconds"), "queue"),
            Query(_quantile(0.95, "compute_seconds"), "engine"),
        ),
        graph(
            "Error budget burn",
            "How many times as fast as allowed the budget of 0.1 % failed requests is used up: 1 uses it up in exactly 30 days.",
            "none",
            *(Query(_burn("failed_requests", "requests", 0.001, window), f"{{{{model}}}} {window}") for window in ("5m", "1h", "6h")),
            limits=(_SLOW, _FAST),
        ),
        graph(
            "Latency budget burn",
            "The same for the budget of 1 % of requests that take more than 0.1 s.",
            "none",
            *(Query(_burn("slow_requests", "timed_requests", 0.01, window), f"{{{{model}}}} {window}") for window in ("5m", "1h", "6h")),
            limits=(_SLOW, _FAST),
        ),
        graph(
            "Waiting rows",
            "Rows that wait to be batched, now.",
            "short",
            Query(f"sum by (model, version) (tidegate_queue_rows{{{_MODEL}}})", "{{model}} {{version}}"),
        ),
        graph(
            "Rows in a batch",
            "Mean number of rows that run together.",
            "short",
            Query(
                f"sum by (model) (rate(tidegate_batch_rows_sum{{{_MODEL}}}[$__rate_interval]))"
                f" / sum by (model) (rate(tidegate_batch_rows_count{{{_MODEL}}}[$__rate_interval]))",
                "{{model}}",
            ),
        ),
        graph(
            "Refused requests",
            "Requests refused or failed per second, by reason.",
            "reqps",
            Query(f"sum by (reason) (rate(tidegate_rejected_total{{{_MODEL}}}[$__rate_interval]))", "{{reason}}"),
        ),
        graph(
            "In flight",
            "Requests admitted and not answered yet.",
            "short",
            Query("sum by (instance) (tidegate_in_flight_requests)", "{{instance}}"),
        ),
    )
    models = choice("model", "Model", "label_values(tidegate_model_info, model)", everything=True)
    return board("serving", "Requests, latency, queue and error budgets.", [models], panels)


def _quantile(share: float, histogram: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(tidegate_{histogram}_bucket{{{_MODEL}}}[$__rate_interval])))"


def _burn(bad: str, total: str, budget: float, window: str) -> str:
    return f"tidegate:{bad}:{window}{{{_MODEL}}} / tidegate:{total}:{window} / {budget}"
