"""Fleet: which daemons there are, which versions they have loaded, what did not load, and how old their view of the registry is."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import Query, board, graph, number, rows


def fleet() -> Dashboard:
    """The dashboard."""
    panels = (
        number("Daemons up", "Those that Prometheus can read.", "short", Query('sum(up{job="tidegate-daemon"})', "daemons")),
        number("Control planes up", "The same.", "short", Query('sum(up{job="tidegate-control-plane"})', "control planes")),
        number(
            "Not loaded",
            "Versions that should be loaded and are not, at any daemon.",
            "short",
            Query("count(max by (model, version) (tidegate_model_load_failed)) or vector(0)", "versions"),
            limits=(1,),
        ),
        number(
            "Registry unreachable",
            "Daemons that could not read the registry when they last tried.",
            "short",
            Query("count(tidegate_registry_reachable) - sum(tidegate_registry_reachable)", "daemons"),
            limits=(1,),
        ),
        rows(
            "Loaded versions",
            "What each daemon has loaded, and in which stage it is; the digest is that of the ONNX file.",
            Query("sum by (instance, model, version, stage, digest) (tidegate_model_info)", ""),
            width=24,
        ),
        rows(
            "What is not as the registry says",
            "Versions that do not load. RepositoryIndex and the log of the daemon say why.",
            Query("max by (instance, model, version) (tidegate_model_load_failed)", ""),
        ),
        rows(
            "Earlier versions that answer instead",
            "The stable version does not load, and one that was approved before it answers.",
            Query("max by (instance, model, version) (tidegate_model_fallback)", ""),
        ),
        graph(
            "Attempts that failed",
            "Times a version did not load, over an hour.",
            "short",
            Query("sum by (model, version) (increase(tidegate_model_load_failures_total[1h]))", "{{model}} {{version}}"),
        ),
        graph(
            "Time to load",
            "From the first byte to ready: reading, hashing, compiling and checking the golden rows.",
            "s",
            Query("max by (model, version) (tidegate_model_load_seconds)", "{{model}} {{version}}"),
        ),
        graph(
            "Age of the registry",
            "Since a daemon last read every log to its end: promotions later than that have no effect there yet.",
            "s",
            Query("max by (instance) (tidegate_registry_age_seconds)", "{{instance}}"),
            limits=(300,),
        ),
        graph(
            "Memory of loaded versions",
            "An estimate, and what it may be; a bound of 0 is none.",
            "bytes",
            Query("sum by (instance) (tidegate_model_bytes)", "{{instance}}"),
            Query("max by (instance) (tidegate_memory_budget_bytes)", "{{instance}} at most"),
        ),
        graph(
            "Requests to the control plane",
            "Per second, by route and status.",
            "reqps",
            Query("sum by (route, status) (rate(tidegate_http_requests_total[$__rate_interval]))", "{{route}} {{status}}"),
        ),
        graph(
            "Alerts told to the control plane",
            "What became of them, over an hour.",
            "short",
            Query("sum by (alert, status, outcome) (increase(tidegate_alerts_total[1h]))", "{{alert}} {{status}}: {{outcome}}"),
        ),
    )
    return board("fleet", "Daemons, the versions they have loaded, and their view of the registry.", [], panels)
