"""Quality as metrics: the production versions, judged in the background, so that a scrape only reads what was found last."""

import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.errors import QualityError
from control_plane.quality.desk import QualityDesk
from control_plane.quality.span import span
from control_plane.registry_pool import RegistryPool
from registry.errors import RegistryError
from registry.registry import Registry

if TYPE_CHECKING:
    from control_plane.quality.assess import Quality

REFRESH_SECONDS = 60.0
IDLE_SHARE = 9.0
"""For each second that judging took, so many pass before it is done again: at most a tenth of a core is spent on it."""
_GAUGES = {
    "tidegate_quality_auc": "AUC of the mature rows that have labels",
    "tidegate_quality_auc_estimate": "What AUC should be of all rows, if scores mean what they say: an estimate, without labels",
    "tidegate_quality_log_loss": "Log loss of the mature rows that have labels, in nats",
    "tidegate_quality_coverage": "Share of the mature rows that have labels",
    "tidegate_quality_labelled_rows": "Mature rows that have labels",
}

_log = structlog.get_logger("tidegate.quality")


class QualityCollector(Collector):
    """Collects `tidegate_quality_*` of the last 30 days at each scrape; a figure that is not defined has no sample."""

    def __init__(self, desk: QualityDesk, registries: RegistryPool, mature: timedelta) -> None:
        self._desk = desk
        self._registries = registries
        self._mature = mature
        self._lock = threading.Lock()
        self._due = 0.0 if desk.open else float("inf")
        self._found: Mapping[tuple[str, int], Quality] = {}

    def describe(self) -> Iterator[Metric]:
        """The families without samples, so that registering reads no file."""
        return _families({})

    def collect(self) -> Iterator[Metric]:
        """The families as last found; what is due is begun and told at a later scrape."""
        with self._lock:
            due = time.monotonic() >= self._due
            if due:
                self._due = float("inf")
        if due:
            threading.Thread(target=self._refresh, name="quality", daemon=True).start()
        return _families(self._found)

    def _refresh(self) -> None:
        started = time.monotonic()
        found: dict[tuple[str, int], Quality] = {}
        try:
            with self._registries.lend() as registry:
                found.update(self._judged(registry))
        except Exception as error:  # noqa: BLE001 -- whatever it was: what is not known any more is told no more, and tried again
            _log.warning("quality left out", error=str(error))
        self._found = found
        took = time.monotonic() - started
        self._due = time.monotonic() + max(REFRESH_SECONDS, IDLE_SHARE * took)

    def _judged(self, registry: Registry) -> Iterator[tuple[tuple[str, int], "Quality"]]:
        for model in registry.models():
            try:
                for version in registry.state(model).answering:
                    asked = span(datetime.now(UTC), self._mature)
                    yield (model, version), self._desk.assess(registry, model, str(version), asked)
            except (RegistryError, QualityError) as error:
                _log.warning("quality left out", model=model, error=str(error))


def _families(found: Mapping[tuple[str, int], "Quality"]) -> Iterator[Metric]:
    families = {name: GaugeMetricFamily(name, text, labels=("model", "version")) for name, text in _GAUGES.items()}
    for (model, version), quality in found.items():
        total = quality.report.total
        values = (total.auc.value, total.estimate.auc, total.log_loss.value, total.coverage, total.labelled)
        for family, value in zip(families.values(), values, strict=True):
            if value is not None:
                family.add_metric((model, str(version)), value)
    yield from families.values()
