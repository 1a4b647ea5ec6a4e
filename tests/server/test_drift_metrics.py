"""Drift metrics are what prometheus_client would have written, say what was counted, and stay as few as the documentation says."""

import gzip
import http.client
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from registry.drift import evaluate
from registry.drift_limits import Limits, Window
from registry.drift_shown import chosen
from registry.drift_tally import Tally
from registry.drift_windows import DriftWindows
from registry.profile import CategoricalFeature, Feature, NumericFeature, Profile
from server.counts import COUNTED_ARMS, PRODUCTION, Counters, DriftCounts, VersionKey
from server.drift_metrics import DriftExposition
from server.exposition import Family
from server.metrics_server import MetricsServer

AWKWARD = 'a "quoted"\\ name,\nof {two} lines = 100% é\x00'
LIMITS = Limits(windows=(Window(rows=1000), Window(seconds=3600)))
PROFILE = Profile(
    100,
    (
        NumericFeature("x", (0.0, 1.5), (30, 40, 30, 0)),
        CategoricalFeature(AWKWARD, (AWKWARD, "%s"), (50, 40, 10, 0)),
        NumericFeature("constant", (3.0,), (100, 0, 0)),
    ),
    (NumericFeature("score", (0.5,), (50, 50, 0)),),
    limits=LIMITS,
)
OBSERVED = Tally(1200, np.array([700, 300, 100, 100, 1, 2, 1197, 0, 1200, 0, 0, 1 << 40, 5, 0], np.int64))


def counts_of(profile: Profile, tally: Tally, uncounted: frozenset[str] = frozenset()) -> DriftCounts:
    windows = DriftWindows.begin(profile, 0.0)
    arms = dict.fromkeys(COUNTED_ARMS, windows.advance(1.0, Tally(3 * tally.rows, 3 * tally.counts)))
    return DriftCounts(profile, {**arms, PRODUCTION: windows.advance(1.0, tally)}, uncounted)


def families(drift: dict[VersionKey, DriftCounts], features: int = 100) -> list[Family]:
    return list(DriftExposition(lambda: Counters({}, {}, {}, {}, drift), features).families())


def parsed(text: str) -> dict[str, tuple[str, str, list[tuple[str, tuple[tuple[str, str], ...], float]]]]:
    """Type, help and samples of every family, as prometheus_client reads them."""
    return {family.name: described(family) for family in text_string_to_metric_families(text)}


def described(family: Metric) -> tuple[str, str, list[tuple[str, tuple[tuple[str, str], ...], float]]]:
    samples = [(sample.name, tuple(sorted(sample.labels.items())), sample.value) for sample in family.samples]
    return family.type, family.documentation, sorted(samples)


class Slowly:
    """The same families by prometheus_client's own objects."""

    def __init__(self, model: str, counts: DriftCounts) -> None:
        self._model, self._counts = model, counts

    def collect(self) -> Iterator[Metric]:
        profile, windows = self._counts.profile, self._counts.arms[PRODUCTION]
        feature_labels = ["model", "version", "feature"]
        bins = CounterMetricFamily("tidegate_drift_bin", "Observed values by bin of the profile", labels=[*feature_labels, "bin"])
        text = "Observed values at or under an edge of the profile"
        edges = CounterMetricFamily("tidegate_drift_edge", text, labels=[*feature_labels, "edge"])
        psi = GaugeMetricFamily("tidegate_drift_psi", "Population stability index", labels=[*feature_labels, "window"])
        ks = GaugeMetricFamily("tidegate_drift_ks", "Kolmogorov-Smirnov distance", labels=[*feature_labels, "window"])
        observed = windows.everything.tally.by_feature(profile)
        for feature, counted in zip(profile.features, observed, strict=True):
            for name, number in zip(feature.bins, counted.tolist(), strict=True):
                bins.add_metric([self._model, "7", feature.name, name], number)
            if isinstance(feature, NumericFeature):
                for name, number in zip(feature.bins[:-1], counted[:-1].cumsum().tolist(), strict=True):
                    edges.add_metric([self._model, "7", feature.name, name], number)
        for label in ("all", "1000rows"):
            for verdict in evaluate(profile, observed):
                psi.add_metric([self._model, "7", verdict.name, label], verdict.psi)
                if verdict.ks is not None:
                    ks.add_metric([self._model, "7", verdict.name, label], verdict.ks)
        yield from (bins, edges, psi, ks)


@pytest.mark.parametrize("model", ["credit", AWKWARD])
def test_families_are_those_that_prometheus_client_would_have_written(model: str) -> None:
    counts = counts_of(PROFILE, OBSERVED)
    registry = CollectorRegistry()
    registry.register(Slowly(model, counts))
    ours = "".join(family.text(openmetrics=False) for family in families({(model, 7): counts}))
    expected = parsed(generate_latest(registry).decode())
    assert {name: described for name, described in parsed(ours).items() if name in expected} == expected
    assert len(expected) == 4


@given(st.text(max_size=12), st.text(min_size=1, max_size=12))
def test_any_text_is_a_label_and_comes_back(name: str, value: str) -> None:
    # A carriage return ends a line for no parser of Prometheus, but for the one used here.
    name, value = (text.encode(errors="replace").decode().replace("\r", "?") for text in (name, value))
    profile = Profile(1, (CategoricalFeature(name, (value,), (1, 0, 0)),), ())
    counts = counts_of(profile, Tally(3, np.array([1, 2, 0], np.int64)))
    text = "".join(family.text(openmetrics=False) for family in families({("m", 1): counts}))
    bins = {sample.labels["bin"]: sample.value for sample in samples(text) if sample.name == "tidegate_drift_bin_total"}
    assert bins == {f"={value}": 1, "other": 2, "missing": 0}
    assert {sample.labels["feature"] for sample in samples(text) if "feature" in sample.labels} == {name}


def samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def values(drift: dict[VersionKey, DriftCounts], name: str, features: int = 100) -> dict[str, float]:
    """By version."""
    text = "".join(family.text(openmetrics=False) for family in families(drift, features))
    return {sample.labels["version"]: sample.value for sample in samples(text) if sample.name == name}


def test_no_rows_have_bins_of_zero_and_no_distance() -> None:
    text = "".join(family.text(openmetrics=False) for family in families({("m", 1): counts_of(PROFILE, Tally.nothing(PROFILE))}))
    found = samples(text)
    assert {sample.value for sample in found if sample.name == "tidegate_drift_bin_total"} == {0}
    assert not [sample for sample in found if sample.name in {"tidegate_drift_psi", "tidegate_drift_ks"}]
    assert values({("m", 1): counts_of(PROFILE, Tally.nothing(PROFILE))}, "tidegate_drift_detected") == {"1": 0}


def test_without_a_version_there_are_families_and_no_samples() -> None:
    text = "".join(family.text(openmetrics=False) for family in families({}))
    assert len(parsed(text)) == 8
    assert samples(text) == []


def test_detected_is_a_drift_that_lasts_even_of_a_feature_that_is_not_shown() -> None:
    windows = DriftWindows.begin(PROFILE, 0.0)
    lasting = windows.advance(1.0, OBSERVED).advance(2.0, OBSERVED + OBSERVED)
    drift = {("m", number): DriftCounts(PROFILE, {PRODUCTION: each}) for number, each in enumerate((windows, lasting))}
    assert values(drift, "tidegate_drift_detected", features=0) == {"0": 0, "1": 1}
    assert values(drift, "tidegate_drift_features_omitted", features=0) == {"0": 3, "1": 3}
    assert values(drift, "tidegate_drift_features_omitted") == {"0": 0, "1": 0}


def test_most_important_inputs_and_all_predictions_are_shown_in_the_order_of_the_profile() -> None:
    assert chosen(PROFILE, 2) == [0, 1, 3]
    assert chosen(replace(PROFILE, importance=(0.1, 0.0, 0.7)), 1) == [2, 3]
    assert chosen(replace(PROFILE, importance=(0.1, 0.1, 0.1)), 2) == [0, 1, 3]
    assert chosen(PROFILE, 0) == [3]


def test_features_that_are_not_counted_are_numbered_and_have_no_samples() -> None:
    drift = {("m", 1): counts_of(PROFILE, OBSERVED, frozenset({"x", "score"}))}
    text = "".join(family.text(openmetrics=False) for family in families(drift))
    assert {sample.labels["feature"] for sample in samples(text) if "feature" in sample.labels} == {AWKWARD, "constant"}
    assert values(drift, "tidegate_drift_features_uncounted") == {"1": 2}


def test_what_is_remembered_follows_a_version_that_is_replaced() -> None:
    drift = {("m", 1): counts_of(PROFILE, OBSERVED)}
    exposition = DriftExposition(lambda: Counters({}, {}, {}, {}, drift), 100)
    names = [label_values(exposition, "feature")]
    drift[("m", 1)] = counts_of(Profile(1, PROFILE.predictions, ()), Tally.nothing(Profile(1, PROFILE.predictions, ())))
    names.append(label_values(exposition, "feature"))
    del drift["m", 1]
    names.append(label_values(exposition, "feature"))
    assert names == [{"x", AWKWARD, "constant", "score"}, {"score"}, set()]


def label_values(exposition: DriftExposition, label: str) -> set[str]:
    text = "".join(family.text(openmetrics=False) for family in exposition.families())
    return {sample.labels[label] for sample in samples(text) if label in sample.labels}


def wide(numeric: int, categorical: int) -> Profile:
    """As training makes them: 20 bins, or 50 categories."""
    edges = tuple(map(float, range(19)))
    inputs: list[Feature] = [NumericFeature(f"a numeric feature {n}", edges, (100,) * 20 + (0,)) for n in range(numeric)]
    texts = tuple(f"value {n}" for n in range(50))
    inputs += [CategoricalFeature(f"a categorical feature {n}", texts, (40,) * 50 + (0, 0)) for n in range(categorical)]
    return Profile(2000, tuple(inputs), (NumericFeature("score", edges, (100,) * 20 + (0,)),))


def test_number_of_series_is_the_documented_one_and_capped() -> None:
    profile = wide(400, 100)
    drift = {("m", 1): every_window(profile)}
    page = (Path(__file__).parents[2] / "docs" / "daemon.md").read_text("utf-8")
    documented = {
        kind: int(number) for kind, number in re.findall(r"^\| (numeric|categorical) feature \|.*\| \**(\d+)\** \|$", page, re.MULTILINE)
    }
    text = "".join(family.text(openmetrics=False) for family in families(drift, 1000))
    shown = samples(text)
    for kind in ("numeric", "categorical"):
        assert len([sample for sample in shown if sample.labels.get("feature") == f"a {kind} feature 7"]) == documented[kind]
    of_version = [sample for sample in shown if "feature" not in sample.labels]
    assert len(of_version) == 4
    assert len(shown) == 4 + 401 * documented["numeric"] + 100 * documented["categorical"]
    capped = samples("".join(family.text(openmetrics=False) for family in families(drift)))
    assert len(capped) == 4 + 101 * documented["numeric"]
    assert [sample.value for sample in capped if sample.name == "tidegate_drift_features_omitted"] == [400]


def every_window(profile: Profile) -> DriftCounts:
    """Counts of which a window of every length has been completed."""
    tally = Tally(10_000, np.concatenate([np.array(feature.reference) * 5 for feature in profile.features]))
    windows = DriftWindows.begin(profile, 86_000.0).advance(86_001.0, tally).advance(86_400.0, tally)
    return DriftCounts(profile, {PRODUCTION: windows})


def test_exporting_500_features_computes_nothing_twice() -> None:
    drift = {("m", 1): every_window(wide(500, 0))}
    exposition = DriftExposition(lambda: Counters({}, {}, {}, {}, drift), 1000)

    def seconds() -> float:
        start = time.thread_time()
        list(exposition.families())
        return time.thread_time() - start

    seconds()
    assert min(seconds() for _ in range(5)) < 0.05


@contextmanager
def serving(drift: dict[VersionKey, DriftCounts]) -> Iterator[http.client.HTTPConnection]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        server = MetricsServer([], [DriftExposition(lambda: Counters({}, {}, {}, {}, drift), 100)], listener)
        server.start()
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            yield connection
        finally:
            connection.close()
            server.stop()


def get(connection: http.client.HTTPConnection, **headers: str) -> tuple[str, bytes]:
    connection.request("GET", "/metrics", headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    assert response.status == 200
    return response.headers["Content-Type"], response.read()


def test_openmetrics_is_answered_in_full_to_who_asks_for_it() -> None:
    with serving({("m", 1): counts_of(PROFILE, OBSERVED)}) as connection:
        content_type, body = get(connection, Accept="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        found = list(openmetrics_parser.text_string_to_metric_families(body.decode()))  # type: ignore[no-untyped-call]
        bins = next(family for family in found if family.name == "tidegate_drift_bin")
        assert (bins.type, len(bins.samples)) == ("counter", OBSERVED.counts.size)
        assert body.endswith(b"# EOF\n")
        assert body.count(b"# EOF") == 1
        plain_type, plain = get(connection)
        assert plain_type.startswith("text/plain; version=0.0.4")
        assert b"# TYPE tidegate_drift_bin_total counter" in plain
        assert {family.name for family in found} == set(parsed(plain.decode()))


def test_answer_is_packed_for_who_can_unpack_it_and_other_methods_are_refused() -> None:
    with serving({("m", 1): counts_of(PROFILE, OBSERVED)}) as connection:
        _, plain = get(connection)
        _, packed = get(connection, Accept_Encoding="deflate, gzip;q=0.9")
        name = b"tidegate_drift_bin_total{"
        assert gzip.decompress(packed).count(name) == plain.count(name) == OBSERVED.counts.size
        connection.request("POST", "/metrics", body=b"")
        refused = connection.getresponse()
        refused.read()
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
