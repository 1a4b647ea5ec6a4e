"""Drifted traffic ends in a note in the model's log: by the real Prometheus, Alertmanager, daemon and control plane."""

import re
from pathlib import Path

from registry.alert import Alert, noted_in
from registry.location import open_registry
from tests.alertmanager import alertmanager, configuration
from tests.daemons import wait_until
from tests.fleet import MODEL, Fleet, ask, fleet
from tests.prometheus import prometheus

SECONDS = 60
RULE = """
groups:
  - name: test
    interval: 500ms
    rules:
      - alert: TidegateDrift
        expr: max by (model, version) (tidegate_drift_psi{window="all"}) >= 0.2
        labels: {severity: ticket}
        annotations:
          summary: '{{ $labels.model }} version {{ $labels.version }} drifted'
          runbook_url: docs/runbooks/tidegate-drift.md
"""


def scraping(running: Fleet, alerts_to: str) -> str:
    """Prometheus told of a fleet and of an Alertmanager; it looks twice a second."""
    return f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alerts_to}"]}}]}}]}}
scrape_configs: [{{job_name: tidegate, static_configs: [{{targets: {running.metrics}}}]}}]
"""


def hurried(text: str) -> str:
    """Alertmanager's configuration with waits of a second on the way to the control plane."""
    for wait in ("group_wait: 10s", "group_interval: 1m"):
        assert text.count(wait) == 1
        text = re.sub(rf"{wait}\b", f"{wait.split(':', maxsplit=1)[0]}: 1s", text)
    return text


def noted(running: Fleet) -> list[tuple[str, Alert]]:
    """The reasons and alerts of the notes there are."""
    log = open_registry(running.registry).log(MODEL)
    return [(entry.change.reason, alert) for entry in log if (alert := noted_in(entry))]


def test_drifted_traffic_is_noted_in_the_log_once_and_its_end_too(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULE)
    with (
        fleet(tmp_path, daemons=1) as running,
        alertmanager(tmp_path, hurried(configuration(str(running.http.base_url).rstrip("/")))) as alerting,
        prometheus(tmp_path, scraping(running, alerting.address)) as watching,
    ):
        (serving,) = running.daemons
        ask(serving)
        wait_until(lambda: watching.query(f'tidegate_drift_rows_total{{model="{MODEL}"}}', "model") == {MODEL: 1000}, "nothing was scraped")
        assert noted(running) == []

        ask(serving, shift=2.0)
        wait_until(lambda: bool(noted(running)), "the drift was not noted", SECONDS)
        ((reason, alert),) = noted(running)
        assert reason == f"TidegateDrift: {MODEL} version 1 drifted"
        assert (alert.name, alert.status, alert.version) == ("TidegateDrift", "firing", "1")
        assert f"TidegateDrift: {MODEL} version 1 drifted" in running.http.get(f"/models/{MODEL}").text

        ask(serving, times=40)
        wait_until(lambda: len(noted(running)) > 1, "its end was not noted", SECONDS)
        assert [(told.status, told.fingerprint) for _, told in noted(running)] == [
            ("firing", alert.fingerprint),
            ("resolved", alert.fingerprint),
        ]
