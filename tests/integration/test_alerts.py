"""Drifted traffic ends in a note in the model's log: by the real Prometheus, Alertmanager, daemon and control plane.

Rules and routes are those that are shipped, but for their times: an hour, wherever one stands in brackets, is `HOUR` seconds.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

from registry.alert import Alert, noted_in
from registry.drift_limits import Limits, Window
from registry.location import open_registry
from tests.alertmanager import alertmanager, configuration
from tests.daemons import Daemon, wait_until
from tests.fleet import MODEL, Fleet, ask, fleet
from tests.prometheus import prometheus, write_rules

SECONDS = 60
HOUR = 6.0


def scraping(running: Fleet, alerts_to: str) -> str:
    """Prometheus told of a fleet and of an Alertmanager; it looks twice a second."""
    return f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}
rule_files: [rules/*.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alerts_to}"]}}]}}]}}
scrape_configs:
  - {{job_name: tidegate-daemon, static_configs: [{{targets: {running.metrics[:-1]}}}]}}
  - {{job_name: tidegate-control-plane, static_configs: [{{targets: {running.metrics[-1:]}}}]}}
"""


def hurried(text: str) -> str:
    """Alertmanager's configuration with waits of a second on the way to the control plane."""
    for wait in ("group_wait: 10s", "group_interval: 1m"):
        assert text.count(wait) == 1
        text = re.sub(rf"{wait}\b", f"{wait.split(':', maxsplit=1)[0]}: 1s", text)
    return text


def noted(running: Fleet, feature: str) -> list[tuple[str, Alert]]:
    """The reasons and alerts of the notes there are about drift of an input in windows of an hour."""
    wanted = {"alertname": "TidegateDrift", "feature": feature, "window": "1h"}
    alerts = [(entry.change.reason, noted_in(entry)) for entry in open_registry(running.registry).log(MODEL)]
    return [(reason, alert) for reason, alert in alerts if alert and wanted.items() <= alert.labels.items()]


def keep_asking(serving: Daemon, until: Callable[[], bool], failure: str, shift: float = 0.0) -> None:
    """Traffic until something holds."""

    def asked() -> bool:
        ask(serving, shift=shift)
        time.sleep(0.3)
        return until()

    wait_until(asked, failure, SECONDS)


def test_drifted_traffic_is_noted_in_the_log_once_and_its_end_too(tmp_path: Path) -> None:
    write_rules(tmp_path / "rules", HOUR)
    with (
        fleet(tmp_path, daemons=1, limits=Limits(windows=(Window(rows=2000),))) as running,
        alertmanager(tmp_path, hurried(configuration(str(running.http.base_url).rstrip("/")))) as alerting,
        prometheus(tmp_path, scraping(running, alerting.address)) as watching,
    ):
        (serving,) = running.daemons
        judged = 'tidegate:drift_psi:1h{feature="a"}'
        keep_asking(serving, lambda: bool(watching.query(judged, "feature")), "nothing was judged")
        assert noted(running, "a") == []

        keep_asking(serving, lambda: bool(noted(running, "a")), "the drift was not noted", shift=2.0)
        ((reason, alert),) = noted(running, "a")
        assert reason == f"TidegateDrift: Input a of {MODEL} version 1 drifted"
        assert (alert.status, alert.version, alert.labels["severity"]) == ("firing", "1", "ticket")
        assert reason in running.http.get(f"/models/{MODEL}").text

        # Nobody asks any more: that is no drift, whatever the daemon still remembers.
        wait_until(lambda: len(noted(running, "a")) > 1, "its end was not noted", SECONDS)
        assert watching.query("tidegate_drift_detected", "model") == {MODEL: 1}
        assert [(told.status, told.fingerprint) for _, told in noted(running, "a")] == [
            ("firing", alert.fingerprint),
            ("resolved", alert.fingerprint),
        ]
        assert noted(running, "b") == noted(running, "c") == []
