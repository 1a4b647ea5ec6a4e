"""The recording rules in the real Prometheus, fed by two daemons and a control plane, against PSI and KS of the summed counts.

The rules are those that are shipped but for the length of their windows: an hour, wherever one stands in brackets, is 20 seconds here,
and rules are evaluated every second.

`increase` extrapolates from the first and the last sample of its window to the ends of the window. Every counter was scraped at 0 first,
where it does not extrapolate, so what it adds is at most 1.1 mean scrape intervals at the end: for n samples a factor of up to
1 + 1.1 / (n - 1), which is the same for all counts of a daemon, and another for the other daemon. So the rules have to give what the
counts give when those of either daemon, or of both, are multiplied by such a factor: that is the tolerance, and no more.
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
from tests.prometheus import ROOT, RULES, Prometheus, found, prometheus, write_rules
from tidegate_client import Client, Drift, TidegateError

HOUR = 20.0
"""Seconds that stand for an hour."""
ROUNDING = 0.001
"""Counts that are no integers, and the half row of smoothing on fewer or more rows."""
SERIES_OF_A_NUMERIC_FEATURE = 112

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

    def verdict(self, *factors: float) -> tuple[FeatureDrift, ...]:
        """The verdict on the counts of all daemons, those of each multiplied by a factor, added up as integers."""
        reference = profile.parse(self.registry.read("fleet", 1, bundle.PROFILE))
        counts = [
            [np.rint(np.asarray(feature.observed) * factor).astype(np.int64) for feature in drift_of(serving).features]
            for serving, factor in zip(self.daemons, factors, strict=True)
        ]
        return drift.evaluate(reference, [np.sum(each, axis=0) for each in zip(*counts, strict=True)])


def drift_of(serving: Daemon) -> Drift:
    """What one daemon counted since it started."""
    with Client(serving.address) as client:
        return client.drift("fleet")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found("prometheus")
    random = np.random.default_rng(11)
    registry = create_registry(str(tmp_path / "registry"))
    models.register_classifier(registry, "fleet", 2.0, random.normal(size=(2000, 3)).astype(np.float32), ["red", "green"] * 1000)
    registry.promote("fleet", 1, to="production", actor="test", reason="first")
    flags = {"registry": str(tmp_path / "registry")}
    write_rules(tmp_path / "rules", HOUR)
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


def rows(seed: int, number: int, shift: float) -> dict[str, NDArray[np.generic]]:
    """Rows of which `a` is shifted, of `b` one value in ten is missing, and of `kind` one in five is new."""
    random = np.random.default_rng(seed)
    numeric = random.normal(size=(number, 3)).astype(np.float32)
    numeric[:, 0] += shift
    numeric[random.random(number) < 0.1, 1] = np.nan
    kinds = random.choice(np.array(["red", "green", "blue"], object), number, p=[0.4, 0.4, 0.2])
    return {"numeric": numeric, "categorical": kinds.reshape(-1, 1)}


def send(fleet: Fleet) -> None:
    """A second or two of traffic, more and other of it to the first daemon than to the second."""
    with Client(fleet.daemons[0].address) as first, Client(fleet.daemons[1].address) as second:
        for step in range(15):
            first.predict("fleet", rows(step, 200, 0.6))
            second.predict("fleet", rows(1000 + step, 100, 0.1))
            time.sleep(0.1)
        with pytest.raises(TidegateError):
            first.predict("fleet", {"numeric": np.zeros((1, 3), np.float32)})


def wait_for_the_beginning_of_an_hour() -> None:
    """Until every daemon was scraped in a tumbling window, and what follows soon falls into the same one."""
    while not 3 <= time.time() % HOUR <= HOUR - 7:
        time.sleep(0.1)


def compare(fleet: Fleet, window: str, most: float) -> None:
    """Hold what a window records to the exact values, of counts that are at most `most` times too many."""
    asked, exact = fleet.prometheus, fleet.verdict(1, 1)
    corners = [fleet.verdict(*factors) for factors in ((most, 1), (1, most), (most, most))]
    for name in ("psi", "ks"):
        values = asked.query(f"tidegate:drift_{name}:{window}", "feature")
        expected = {feature.name: getattr(feature, name) for feature in exact if getattr(feature, name) is not None}
        assert values.keys() == expected.keys()
        for place, feature in enumerate(exact):
            if feature.name in expected:
                tolerance = max(abs(getattr(corner[place], name) - expected[feature.name]) for corner in corners) + ROUNDING
                assert values[feature.name] == pytest.approx(expected[feature.name], abs=tolerance), (name, feature.name, most)
    assert exact[0].rows <= asked.query(f"tidegate:drift_rows:{window}", "model")["fleet"] + 1 <= exact[0].rows * most + 2
    assert set(asked.query(f"tidegate:drift_detected:{window}", "feature")) == {feature.name for feature in exact if feature.drifted}


def test_rules_give_the_psi_and_ks_of_the_whole_fleet(fleet: Fleet) -> None:
    asked = fleet.prometheus
    scrapes = f"count_over_time(tidegate_drift_rows_total[{HOUR:.0f}s] offset 2s)"
    wait_until(lambda: asked.query(f"count({scrapes} >= 2)", "").get("") == 2, "the daemons are not scraped")
    wait_until(lambda: "tidegate:drift_reference_share" in asked.names(), "the references are not recorded")
    wait_for_the_beginning_of_an_hour()
    send(fleet)
    drifted = {feature.name: feature.drifted for feature in fleet.verdict(1, 1)}
    assert all(drifted[name] for name in ("a", "b", "kind"))
    assert not drifted["c"]

    wait_until(lambda: asked.query("sum(tidegate_drift_rows_total)", "").get("") == 4500, "not every row was scraped")
    time.sleep(2)  # for the rules to have seen it too
    compare(fleet, "1h", 1 + 1.1 / (min(asked.query(scrapes, "instance").values()) - 1))

    time.sleep(HOUR - time.time() % HOUR + 2)  # the longer windows are of hours that are over
    most = 1 + 1.1 / (min(asked.query(scrapes, "instance").values()) - 1)
    for window in ("6h", "24h"):
        compare(fleet, window, most)

    rules = [rule for group in asked.get("rules", {})["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, [rule["lastError"] for rule in rules if rule["health"] != "ok"]

    # As docs/monitoring.md says.
    recorded = asked.query('count by (feature) ({__name__=~"tidegate:drift_.*"})', "feature")
    assert recorded["c"] == SERIES_OF_A_NUMERIC_FEATURE

    read = {
        name for path in (*RULES, *RUNBOOKS) for name in re.findall(r"\btidegate[:_][a-z0-9_:]+(?=[{[)])", path.read_text(encoding="utf-8"))
    }
    assert read - UNUSUAL <= asked.names()
