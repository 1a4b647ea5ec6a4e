"""The recording rules in the real Prometheus, fed by two daemons and a control plane, against PSI and KS of the summed counts.

The rules are those that are shipped but for the length of their windows: an hour, wherever one stands in brackets, is 20 seconds here,
and rules are evaluated every second. `increase` extrapolates from the first and last sample to the ends of its window: as every counter
was scraped at 0 first, it adds at most what was counted in one scrape interval on average. That is one second of the eight or more since
the first scrape: `EXTRAPOLATED`. It scales all counts of a daemon alike, so that shares, and with them PSI and KS, change only by the
weight of one daemon against the other, and by the half row of smoothing: `TOLERANCE`.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clients.demo.programs import running
from registry import bundle, drift, profile
from registry.drift import FeatureDrift
from registry.location import create_registry
from registry.registry import Registry
from tests import models
from tests.daemons import Daemon, daemon, wait_until
from tests.prometheus import ROOT, RULES, Prometheus, found, prometheus
from tidegate_client import Client, TidegateError

HOUR = 20.0
"""Seconds that stand for an hour."""
EXTRAPOLATED = 1 / 8
TOLERANCE = 0.02

CONFIGURATION = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: ["rules/*.yml"]
scrape_configs:
  - job_name: tidegate-daemon
    static_configs: [{targets: [%s]}]
  - job_name: tidegate-control-plane
    static_configs: [{targets: [%s]}]
"""

RUNBOOKS = tuple((ROOT / "docs" / "runbooks").glob("*.md"))
UNUSUAL = {
    *("tidegate_model_load_failed", "tidegate_model_fallback", "tidegate_evaluation_auc", "tidegate_evaluation_minority_share"),
    *("tidegate_quality_auc", "tidegate_quality_labelled_rows"),
}
"""Not to be seen where every version loads, none was evaluated and nobody sends labels."""


@dataclass(frozen=True)
class Fleet:
    """What runs, and the registry it serves."""

    registry: Registry
    daemons: list[Daemon]
    prometheus: Prometheus

    def exact(self) -> tuple[FeatureDrift, ...]:
        """The verdict on the counts of all daemons, added up as integers."""
        counts = []
        for serving in self.daemons:
            with Client(serving.address) as client:
                counts.append([np.asarray(feature.observed, np.int64) for feature in client.drift("fleet").features])
        reference = profile.parse(self.registry.read("fleet", 1, bundle.PROFILE))
        return drift.evaluate(reference, [np.sum(each, axis=0) for each in zip(*counts, strict=True)])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found("prometheus")
    random = np.random.default_rng(11)
    registry = create_registry(str(tmp_path / "registry"))
    models.register_classifier(registry, "fleet", 2.0, random.normal(size=(2000, 3)).astype(np.float32), ["red", "green"] * 1000)
    registry.promote("fleet", 1, to="production", actor="test", reason="first")
    flags = {"registry": str(tmp_path / "registry")}
    write_rules(tmp_path / "rules")
    with daemon(tmp_path / "one", flags) as one, daemon(tmp_path / "two", flags) as two:
        control_flags = {**flags, "http-address": "127.0.0.1:0", "daemon": one.address}
        with running("control_plane", control_flags, tmp_path / "control.log") as control:
            for serving in (one, two):
                serving.wait_for("fleet")
            port = control.announcement.rpartition(":")[2]
            daemons = ", ".join(target(serving.metrics_url) for serving in (one, two))
            # The same control plane by two names, as two of them would expose the same.
            configuration = CONFIGURATION % (daemons, f'"127.0.0.1:{port}", "localhost:{port}"')
            with prometheus(tmp_path, configuration) as asked:
                yield Fleet(registry, [one, two], asked)


def target(url: str) -> str:
    """`http://host:port/metrics` -> `"host:port"`."""
    return f'"{url.removeprefix("http://").removesuffix("/metrics")}"'


def write_rules(folder: Path) -> None:
    """The rules that are shipped, with `HOUR` for an hour."""

    def shortened(brackets: re.Match[str]) -> str:
        return re.sub(r"(\d+)h", lambda hours: f"{int(hours[1]) * HOUR:.0f}s", brackets[0])

    folder.mkdir()
    for path in RULES:
        text = re.sub(r"\[[^]]*\]", shortened, path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", text), encoding="utf-8")


def rows(seed: int, number: int, shift: float) -> dict[str, NDArray[np.generic]]:
    """Rows of which `a` is shifted, of `b` one value in ten is missing, and of `kind` one in five is new."""
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(number, 3)).astype(np.float32)
    numeric[:, 0] += shift
    numeric[random.random(number) < 0.1, 1] = np.nan
    kinds = random.choice(np.array(["red", "green", "blue"], object), number, p=[0.4, 0.4, 0.2])
    return {"numeric": numeric, "categorical": kinds.reshape(-1, 1)}


def send(fleet: Fleet) -> None:
    """Some seconds of traffic, more and other of it to the first daemon than to the second."""
    with Client(fleet.daemons[0].address) as first, Client(fleet.daemons[1].address) as second:
        for step in range(30):
            first.predict("fleet", rows(step, 100, 0.6))
            second.predict("fleet", rows(1000 + step, 50, 0.1))
            time.sleep(0.1)
        with pytest.raises(TidegateError):
            first.predict("fleet", {"numeric": np.zeros((1, 3), np.float32)})


def wait_for_the_beginning_of_an_hour() -> None:
    """Until what follows in the next nine seconds falls into one tumbling window."""
    while not 1 <= time.time() % HOUR <= HOUR - 9:
        time.sleep(0.1)


def compare(asked: Prometheus, window: str, exact: tuple[FeatureDrift, ...]) -> None:
    psi, ks = (asked.query(f"tidegate:drift_{name}:{window}", "feature") for name in ("psi", "ks"))
    detected = asked.query(f"tidegate:drift_detected:{window}", "feature")
    counted = asked.query(f"tidegate:drift_rows:{window}", "model")["fleet"]
    assert exact[0].rows == pytest.approx(counted, rel=EXTRAPOLATED)
    assert psi == pytest.approx({feature.name: feature.psi for feature in exact}, rel=TOLERANCE, abs=0.001)
    assert ks == pytest.approx({feature.name: feature.ks for feature in exact if feature.ks is not None}, rel=TOLERANCE, abs=0.002)
    assert set(detected) == {feature.name for feature in exact if feature.drifted}


def test_rules_give_the_psi_and_ks_of_the_whole_fleet(fleet: Fleet) -> None:
    asked = fleet.prometheus
    scraped = f"count(count_over_time(tidegate_drift_rows_total[{HOUR:.0f}s]) >= 3)"
    wait_until(lambda: asked.query(scraped, "").get("") == 2, "the daemons are not scraped")
    wait_until(lambda: "tidegate:drift_reference_share" in asked.names(), "the references are not recorded")
    wait_for_the_beginning_of_an_hour()
    send(fleet)
    exact = fleet.exact()
    assert exact[0].rows == 4500
    assert {feature.name for feature in exact if feature.drifted} == {"a", "b", "kind", "score"}

    wait_until(lambda: asked.query("sum(tidegate_drift_rows_total)", "").get("") == 4500, "not every row was scraped")
    time.sleep(2)  # for the rules to have seen it too
    compare(asked, "1h", exact)

    time.sleep(HOUR - time.time() % HOUR + 2)  # the longer windows are of hours that are over
    for window in ("6h", "24h"):
        compare(asked, window, exact)

    read = {
        name for path in (*RULES, *RUNBOOKS) for name in re.findall(r"\btidegate[:_][a-z0-9_:]+(?=[{[)])", path.read_text(encoding="utf-8"))
    }
    assert read - UNUSUAL <= asked.names()
