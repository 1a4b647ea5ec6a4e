"""The daemon's counts in the Prometheus text format. Counting is the transport's; here they only get names and labels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from registry import drift
from registry.profile import NumericFeature
from server.counts import Counters, Histogram
from server.lifecycle import Lifecycle
from server.routing import RoutingTable

_VERSION = ["model", "version"]
_FEATURE = [*_VERSION, "feature"]
_HISTOGRAMS = {
    "request_seconds": "From the arrival of a request to its answer",
    "queue_seconds": "How long a request waited for its batch to run",
    "compute_seconds": "How long a batch ran in the engine",
    "batch_rows": "Rows of a batch",
}
WINDOW = "all"
"""The only window of one process: every row since it started. Windows of time are for Prometheus to make of the counters."""


class ServerCollector:
    """Collects all metrics of the daemon at each scrape."""

    def __init__(self, counters: Callable[[], Counters], lifecycle: Callable[[], Lifecycle | None]) -> None:
        """`lifecycle` tells how the registry is followed; None where there is none."""
        self._counters = counters
        self._lifecycle = lifecycle
        self._table = RoutingTable()

    def install(self, table: RoutingTable) -> None:
        """Describe the versions of `table` from now on."""
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """Every metric family, as prometheus_client asks for them."""
        counters = self._counters()
        yield from _requests(counters)
        yield from _histograms(counters)
        yield from _versions(self._table)
        if (lifecycle := self._lifecycle()) is not None:
            yield from _following(lifecycle)
        yield from _drift_counts(counters)
        yield from _drift_values(counters)


@dataclass(frozen=True)
class LogCounts:
    """Rows of the prediction log since the start: in files, dropped because the writer was behind, and dropped because writing failed."""

    written: int
    queue_full: int
    write_failed: int


class PredictionLogCollector:
    """Collects what became of the rows offered to the prediction log."""

    def __init__(self, counts: Callable[[], LogCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Every metric family, as prometheus_client asks for them."""
        counts = self._counts()
        yield CounterMetricFamily("tidegate_prediction_log_rows", "Rows written to the prediction log", counts.written)
        dropped = CounterMetricFamily("tidegate_prediction_log_dropped", "Rows that should have been logged and are not", labels=["reason"])
        dropped.add_metric(["queue_full"], counts.queue_full)
        dropped.add_metric(["write_failed"], counts.write_failed)
        yield dropped


class FeedbackCollector:
    """Collects what became of the labels sent."""

    def __init__(self, counts: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        """`counts` gives labels by model and result."""
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """The metric family, as prometheus_client asks for it."""
        labels = CounterMetricFamily("tidegate_feedback", "Labels sent, by what became of them", labels=["model", "result"])
        for (model, result), number in self._counts().items():
            labels.add_metric([model, result], number)
        yield labels


def _requests(counters: Counters) -> Iterator[Metric]:
    requests = CounterMetricFamily("tidegate_requests", "Requests by gRPC status", labels=[*_VERSION, "arm", "code"])
    for labels, number in counters.requests.items():
        requests.add_metric(labels, number)
    yield requests
    rejected = CounterMetricFamily("tidegate_rejected", "Requests refused or failed, by reason", labels=["model", "reason"])
    for (model, reason), number in counters.rejected.items():
        rejected.add_metric([model, reason], number)
    yield rejected
    queued = GaugeMetricFamily("tidegate_queue_rows", "Rows waiting now", labels=_VERSION)
    for (model, version), rows in counters.queue_rows.items():
        queued.add_metric([model, str(version)], rows)
    yield queued
    yield GaugeMetricFamily("tidegate_in_flight_requests", "Requests admitted and not answered yet", value=counters.in_flight)


def _histograms(counters: Counters) -> Iterator[Metric]:
    for name, text in _HISTOGRAMS.items():
        family = HistogramMetricFamily(f"tidegate_{name}", text, labels=_VERSION)
        for (model, version), counts in counters.versions.items():
            histogram: Histogram = getattr(counts, name)
            family.add_metric([model, str(version)], buckets=_buckets(histogram), sum_value=histogram.total)
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets, running = [], 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        running += count
        buckets.append((str(bound), float(running)))
    return buckets


def _versions(table: RoutingTable) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "tidegate_model_info", "Loaded versions, once for each stage they are in", labels=[*_VERSION, "stage", "digest"]
    )
    seconds = GaugeMetricFamily("tidegate_model_load_seconds", "How long loading and checking took", labels=_VERSION)
    sizes = GaugeMetricFamily("tidegate_model_bytes", "Estimate of the memory a loaded version takes", labels=_VERSION)
    failed = GaugeMetricFamily("tidegate_model_load_failed", "1 while a version that should be loaded is not", labels=_VERSION)
    for name, served in table.models.items():
        for number, version in served.versions.items():
            for stage in [stage for stage, meant in served.stages.items() if meant == number] or [""]:
                info.add_metric([name, str(number), stage, version.digest], 1)
            seconds.add_metric([name, str(number)], version.load_seconds)
            sizes.add_metric([name, str(number)], version.memory_bytes)
        for number in served.failures:
            failed.add_metric([name, str(number)], 1)
    yield from (info, seconds, sizes, failed)


def _following(lifecycle: Lifecycle) -> Iterator[Metric]:
    yield GaugeMetricFamily("tidegate_registry_reachable", "Whether the registry could be read when last tried", lifecycle.reachable)
    yield GaugeMetricFamily(
        "tidegate_registry_age_seconds", "Seconds since every log of the registry was last read to its end", lifecycle.age_seconds
    )
    yield GaugeMetricFamily("tidegate_memory_budget_bytes", "Memory that loaded versions may take; 0: no bound", lifecycle.memory_budget)
    failures = CounterMetricFamily("tidegate_model_load_failures", "Times a version did not load", labels=_VERSION)
    for (model, version), number in lifecycle.load_failures.items():
        failures.add_metric([model, str(version)], number)
    yield failures
    fallback = GaugeMetricFamily("tidegate_model_fallback", "1 for a version that answers as the stable one fails to load", labels=_VERSION)
    for model, version in lifecycle.fallbacks.items():
        fallback.add_metric([model, str(version)], 1)
    yield fallback


def _drift_counts(counters: Counters) -> Iterator[Metric]:
    bins = CounterMetricFamily("tidegate_drift_bin", "Observed values by bin of the profile", labels=[*_FEATURE, "bin"])
    edges = CounterMetricFamily("tidegate_drift_edge", "Observed values at or under an edge of the profile", labels=[*_FEATURE, "edge"])
    rows = CounterMetricFamily("tidegate_drift_rows", "Production rows observed", labels=_VERSION)
    for (model, version), counts in counters.drift.items():
        rows.add_metric([model, str(version)], counts.rows)
        for feature, observed in zip(counts.profile.features, counts.observed, strict=True):
            labels = [model, str(version), feature.name]
            for name, number in zip(feature.bins, observed.tolist(), strict=True):
                bins.add_metric([*labels, name], number)
            if isinstance(feature, NumericFeature):
                for name, number in zip(feature.bins[:-1], observed[:-1].cumsum().tolist(), strict=True):
                    edges.add_metric([*labels, name], number)
    yield from (bins, edges, rows)


def _drift_values(counters: Counters) -> Iterator[Metric]:
    psi = GaugeMetricFamily("tidegate_drift_psi", "Population stability index", labels=[*_FEATURE, "window"])
    ks = GaugeMetricFamily("tidegate_drift_ks", "Kolmogorov-Smirnov distance", labels=[*_FEATURE, "window"])
    detected = GaugeMetricFamily("tidegate_drift_detected", "Whether any feature drifted, over all rows", labels=_VERSION)
    for (model, version), counts in counters.drift.items():
        features = drift.evaluate(counts.profile, counts.observed)
        for feature in features:
            labels = [model, str(version), feature.name, WINDOW]
            psi.add_metric(labels, feature.psi)
            if feature.ks is not None:
                ks.add_metric(labels, feature.ks)
        detected.add_metric([model, str(version)], any(feature.drifted for feature in features))
    yield from (psi, ks, detected)
