"""The daemon's counts in the Prometheus text format. Counting is the transport's; here they only get names and labels."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from registry import drift
from registry.profile import NumericFeature
from server.counts import Counters, Histogram
from server.errors import SettingsError
from server.lifecycle import Lifecycle
from server.routing import RoutingTable

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

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


def serve_metrics(collector: ServerCollector, address: str) -> tuple[WSGIServer, str]:
    """Serve `/metrics`, and nothing else, on `address` on a thread; returns the server and the address really bound.

    Raises:
        SettingsError: if the address is taken.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    host, _, port = address.rpartition(":")
    server_class = _Server6 if ":" in host else ThreadingWSGIServer
    try:
        server = make_server(host.strip("[]"), int(port), _only_metrics(make_wsgi_app(registry)), server_class, _SilentHandler)
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror}; choose another with --metrics-address HOST:PORT") from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server, f"{host}:{server.server_port}"


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the signature is the library's
        """A scrape is nothing to tell."""


def _only_metrics(app: "WSGIApplication") -> "WSGIApplication":
    """`app` under its one path, and HEAD, which it does not know itself."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there is only /metrics here\n"]
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start_response)
        list(app({**environ, "REQUEST_METHOD": "GET"}, start_response))
        return []

    return answer


def stop_metrics(server: WSGIServer) -> None:
    """End a metrics server and free its port."""
    server.shutdown()
    server.server_close()


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
