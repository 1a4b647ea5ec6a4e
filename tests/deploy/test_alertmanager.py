"""Who is told of which alert, and which alert silences which: Alertmanager's configuration, asked of Alertmanager itself."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from control_plane.alerts.notices import NAMES
from control_plane.alerts.schemas import MAX_ALERTS
from tests.alertmanager import CONFIGURATION, Alertmanager, alertmanager, configuration
from tests.daemons import wait_until
from tests.deploy.dockerfiles import ROOT, load, services
from tests.prometheus import RULES, found


def labels(text: str) -> dict[str, str]:
    """`TidegateDrift model=m version=1` as labels; their names are in the order of the alphabet, as Alertmanager writes them."""
    name, *others = text.split()
    return {"alertname": name, **dict(other.split("=") for other in others)}


def test_amtool_accepts_the_configuration() -> None:
    done = subprocess.run([found("amtool"), "check-config", CONFIGURATION], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("alert", "receivers"),
    [
        ("TidegateErrorBudgetFastBurn severity=page model=m", "control-plane,page"),
        ("TidegateDaemonDown severity=page instance=daemon:8002", "control-plane,page"),
        ("TidegateDrift severity=ticket feature=x model=m version=1", "control-plane,ticket"),
        ("SomebodyElses", "control-plane,ticket"),
        ("SomebodyElses severity=critical", "control-plane,ticket"),
    ],
)
def test_everything_is_told_to_the_control_plane_and_to_whom_its_severity_says(alert: str, receivers: str) -> None:
    said = [f"{name}={value}" for name, value in labels(alert).items()]
    command = [found("amtool"), "config", "routes", "test", f"--config.file={CONFIGURATION}", f"--verify.receivers={receivers}", *said]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, receivers)


@pytest.mark.parametrize(
    ("fire", "silenced"),
    [
        (["TidegateDaemonDown instance=a", "TidegateNoPredictions model=m", "TidegateQueueFull model=m"], [1, 2]),
        (["TidegateDaemonDown instance=a", "TidegateLatencyBudgetFastBurn model=m", "TidegateLatencyBudgetSlowBurn model=m"], [1, 2]),
        (["TidegateDaemonDown instance=a", "TidegateRegistryStale instance=a", "TidegateRegistryStale instance=b"], [1]),
        (["TidegateDaemonDown instance=a", "TidegateErrorBudgetFastBurn model=m", "TidegateDrift model=m"], []),
        (["TidegateErrorBudgetFastBurn model=m", "TidegateErrorBudgetSlowBurn model=m", "TidegateErrorBudgetSlowBurn model=n"], [1]),
        (["TidegateErrorBudgetFastBurn model=m", "TidegateQueueFull model=m", "TidegateQueueFull model=n"], [1]),
        (["TidegateLatencyBudgetFastBurn model=m", "TidegateLatencyBudgetSlowBurn model=m", "TidegateErrorBudgetSlowBurn model=m"], [1]),
        (["TidegateMissingData feature=x model=m version=1", "TidegateDrift feature=x model=m version=1"], [1]),
        (["TidegateMissingData feature=x model=m version=1", "TidegateDrift feature=y model=m version=1"], []),
        (["TidegateMissingData model=m version=1", "TidegateDrift model=m version=1"], []),
        (["TidegateModelLoadFailed model=m", "TidegateNoPredictions model=m"], []),
    ],
)
def test_an_alert_silences_what_follows_from_it_and_nothing_else(tmp_path: Path, fire: list[str], silenced: list[int]) -> None:
    # Told last: when it is silenced, those before it have been seen to.
    last = ["TidegateErrorBudgetFastBurn model=last", "TidegateErrorBudgetSlowBurn model=last"]
    with alertmanager(tmp_path, configuration("http://127.0.0.1:1")) as running:
        for alert in (*fire, *last):
            running.tell([labels(alert)])
        wait_until(lambda: last[1] in _silenced(running), "nothing is silenced")
        assert set(_silenced(running)) == {*(fire[place] for place in silenced), last[1]}


def test_the_control_plane_takes_as_many_alerts_as_it_may_be_told_at_once_and_is_where_it_listens() -> None:
    receivers = {receiver["name"]: receiver for receiver in load(CONFIGURATION)["receivers"]}
    (webhook,) = receivers["control-plane"]["webhook_configs"]
    assert webhook["max_alerts"] == MAX_ALERTS
    command = list(map(str, services()["control-plane"]["command"]))
    port = command[command.index("--http-address") + 1].rpartition(":")[2]
    assert webhook["url"] == f"http://control-plane:{port}/api/v1/alerts"


def test_no_secret_and_no_address_of_a_person_is_in_the_configuration() -> None:
    receivers = {receiver["name"]: set(receiver) - {"name"} for receiver in load(CONFIGURATION)["receivers"]}
    assert receivers == {"control-plane": {"webhook_configs"}, "page": set(), "ticket": set()}


def test_the_receivers_shown_in_the_docs_are_ones_alertmanager_takes(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "alerting.md").read_text("utf-8"), re.DOTALL)
    shown = {receiver["name"]: receiver for receiver in yaml.safe_load(block)["receivers"]}
    shipped = load(CONFIGURATION)
    assert set(shown) == {"page", "ticket"}
    shipped["receivers"] = [shown.get(receiver["name"], receiver) for receiver in shipped["receivers"]]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(shipped))
    command = [found("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_alertmanager_and_the_control_plane_know_the_alerts_that_prometheus_has() -> None:
    rules = [rule for file in RULES for group in load(file)["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in rules} == NAMES
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}


def _silenced(running: Alertmanager) -> list[str]:
    return [
        " ".join([said.pop("alertname"), *(f"{name}={value}" for name, value in said.items())])
        for alert in running.alerts()
        if alert["status"]["inhibitedBy"] and (said := dict(alert["labels"]))
    ]
