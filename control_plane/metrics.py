"""What Prometheus scrapes: the requests of this process, in a collector registry of its own. Drift references are in `drift.reference`."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

router = APIRouter()


class HttpMetrics:
    """Counts requests by method, route template and status; every label is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self._requests = Counter("tidegate_http_requests", "HTTP requests answered", (*labels, "status"), registry=self.registry)
        self._seconds = Histogram("tidegate_http_request_seconds", "Time to answer an HTTP request", labels, registry=self.registry)

    def add(self, collector: Collector) -> None:
        """Ask `collector` at each scrape too."""
        self.registry.register(collector)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """The Prometheus text format."""
    http_metrics: HttpMetrics = request.app.state.metrics
    return Response(generate_latest(http_metrics.registry), media_type=CONTENT_TYPE_LATEST)
