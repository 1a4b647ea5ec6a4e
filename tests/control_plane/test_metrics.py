"""What Prometheus scrapes: references as the profiles have them, requests with bounded labels."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.samples import Sample
from scipy.special import chdtrc, kolmogorov

from registry import canonical, drift
from registry.drift_limits import Limits
from registry.profile import Feature, NumericFeature, Profile, categorical_feature, numeric_feature
from registry.route import Target
from tests.control_plane.conftest import Control
from tests.exposition import value

SHARE, CDF, ROWS = "tidegate_drift_reference_share", "tidegate_drift_reference_cdf", "tidegate_drift_reference_rows"
PSI_BIN, PSI_SHARE = "tidegate_drift_reference_psi_bin", "tidegate_drift_reference_psi_share"
SERIES_OF_A_NUMERIC_FEATURE, SERIES_OF_A_VERSION = 76, 5
"""As docs/monitoring.md says: shares 21, distribution 20, merged bins 21 and their shares 11, values 1, critical values 2."""
CRITICAL, LIMIT, AUC = "tidegate_drift_reference_critical", "tidegate_drift_limit", "tidegate_evaluation_auc"


def make_profile(name: str = "income") -> Profile:
    income = np.random.default_rng(7).normal(size=400).astype(np.float32)
    income[:100] = np.nan
    return Profile(400, (numeric_feature(name, income), categorical_feature("kind", ["a"] * 300 + ["b"] * 60 + [""] * 40)), ())


def test_references_of_staged_versions_are_exposed_and_of_others_not(control: Control) -> None:
    profile = make_profile()
    model = control.new_model(3, profile_json=profile.encode())
    control.open_registry().promote(model, 1, to="production", actor="ana", reason="go")
    control.open_registry().promote(model, 2, to="staging", actor="ana", reason="look")
    samples = control.scrape()
    mine = [sample for sample in samples if sample.labels.get("model") == model]
    assert {sample.labels["version"] for sample in mine} == {"1", "2"}
    assert value(mine, ROWS, version="1") == 400
    assert value(mine, SHARE, version="1", feature="kind", bin="=a") == pytest.approx(0.75)
    assert value(mine, SHARE, version="1", feature="kind", bin="missing") == pytest.approx(0.1)
    assert value(mine, SHARE, version="1", feature="income") == pytest.approx(1)
    income = profile.inputs[0]
    assert isinstance(income, NumericFeature)
    for place, edge in enumerate(income.bins[:-1]):
        # Of the 300 values that are there, whatever the 100 missing ones do.
        expected = sum(income.reference[: place + 1]) / 300
        assert value(mine, CDF, version="2", feature="income", edge=edge) == pytest.approx(expected)
    assert value(mine, CDF, version="2", feature="income", edge="inf") == pytest.approx(1)


def promoted(control: Control, profile: Profile, **files: bytes) -> list[Sample]:
    """What is exposed of a new model with this profile in production."""
    model = control.new_model(1, profile_json=profile.encode(), **files)
    control.open_registry().promote(model, 1, to="production", actor="ana", reason="go")
    return [sample for sample in control.scrape() if sample.labels.get("model") == model]


def rule_psi(samples: list[Sample], feature: Feature, observed: list[int]) -> float:
    """PSI as the recording rules compute it from what is exposed."""
    rows: dict[str, float] = {}
    for sample in samples:
        if sample.name == PSI_BIN and sample.labels["feature"] == feature.name:
            place = feature.bins.index(sample.labels["bin"])
            rows[sample.labels["psi_bin"]] = rows.get(sample.labels["psi_bin"], 0) + sample.value * observed[place]
    total = sum(count + 0.5 for count in rows.values())
    shares = {name: (count + 0.5) / total for name, count in rows.items()}
    references = {name: value(samples, PSI_SHARE, feature=feature.name, psi_bin=name) for name in rows}
    assert sum(references.values()) == pytest.approx(1)
    return sum(float((shares[name] - references[name]) * np.log(shares[name] / references[name])) for name in rows)


def test_what_is_exposed_suffices_to_compute_psi_as_the_daemon_does(control: Control) -> None:
    profile = make_profile()
    samples = promoted(control, profile)
    random = np.random.default_rng(3)
    for feature in profile.features:
        observed = random.integers(0, 100, len(feature.bins))
        ours, theirs = (drift.merged(feature, np.asarray(counts, np.int64)) for counts in (observed, feature.reference))
        assert rule_psi(samples, feature, observed.tolist()) == pytest.approx(float(drift.psi(ours, theirs)), rel=1e-9)
    merged = {sample.labels["psi_bin"] for sample in samples if sample.name == PSI_BIN and sample.labels["feature"] == "income"}
    assert len(merged) == drift.PSI_BINS + 1
    assert value(samples, PSI_BIN, feature="income", bin="missing", psi_bin="missing") == 1


def test_critical_values_leave_the_false_discovery_rate_to_all_features_and_tests_together(control: Control) -> None:
    profile = make_profile()
    samples = promoted(control, profile)
    numeric = chdtrc(drift.PSI_BINS, value(samples, CRITICAL, feature="income", statistic="psi"))
    assert 3 * 2 * numeric == pytest.approx(profile.limits.false_discovery_rate)
    assert 3 * 2 * kolmogorov(value(samples, CRITICAL, feature="income", statistic="ks")) == pytest.approx(0.05)
    assert 2 * 2 * chdtrc(3, value(samples, CRITICAL, feature="kind", statistic="psi")) == pytest.approx(0.05)
    assert not [
        sample
        for sample in samples
        if sample.name == CRITICAL and sample.labels["statistic"] == "ks" and sample.labels["feature"] == "kind"
    ]


def test_limits_are_those_of_the_profile(control: Control) -> None:
    profile = replace(make_profile(), limits=Limits(psi=0.3, psi_warn=0.15, ks=0.2, min_rows=1000))
    samples = promoted(control, profile)
    found = {sample.labels["limit"]: sample.value for sample in samples if sample.name == LIMIT}
    assert found == {"psi": 0.3, "psi_warn": 0.15, "ks": 0.2, "min_rows": 1000}


def test_a_canary_is_compared_with_its_own_reference(control: Control) -> None:
    model = control.new_model(3, profile_json=make_profile().encode())
    registry = control.open_registry()
    registry.promote(model, 1, to="production", actor="ana", reason="go")
    registry.route(model, Target(1, {1: 90, 2: 10}, (3,)), actor="ana", reason="try")
    exposed = {sample.labels["version"] for sample in control.scrape() if sample.name == ROWS and sample.labels["model"] == model}
    assert exposed == {"1", "2"}  # what a shadow answers is not counted


def test_of_500_features_the_most_important_and_the_predictions_are_exposed(control: Control) -> None:
    values = np.random.default_rng(5).normal(size=200).astype(np.float32)
    inputs = tuple(numeric_feature(f"x{number}", values) for number in range(500))
    profile = Profile(200, inputs, (numeric_feature("score", values),), tuple(float(number % 250) for number in range(500)))
    samples = promoted(control, profile)
    exposed = {sample.labels["feature"] for sample in samples if "feature" in sample.labels}
    assert exposed == {"score", *(f"x{number}" for number in range(500) if number % 250 >= 200)}
    assert len(samples) == 101 * SERIES_OF_A_NUMERIC_FEATURE + SERIES_OF_A_VERSION


def test_a_feature_that_was_never_there_in_training_is_compared_with_nothing(control: Control) -> None:
    profile = Profile(5, (numeric_feature("gone", [np.nan] * 5), NumericFeature("empty", (1.0,), (0, 0, 0))), ())
    samples = promoted(control, profile)
    named = {name: {sample.labels["feature"] for sample in samples if sample.name == name} for name in (PSI_SHARE, SHARE, CDF, CRITICAL)}
    assert named == {PSI_SHARE: {"gone"}, SHARE: {"gone"}, CDF: set(), CRITICAL: {"gone"}}


def test_the_evaluation_is_exposed_and_a_broken_one_harms_nothing_else(control: Control) -> None:
    evaluation: canonical.JsonObject = {"rows": 400, "positives": 300, "metrics": {"auc": {"value": 0.75, "low": 0.7, "high": 0.8}}}
    samples = promoted(control, make_profile(), evaluation_json=canonical.encode(evaluation))
    assert value(samples, AUC) == 0.75
    assert value(samples, "tidegate_evaluation_minority_share") == 0.25
    damages: list[canonical.JsonObject] = [{"rows": 0}, {"positives": 401}, {"metrics": {}}]
    for damage in damages:
        broken = promoted(control, make_profile(), evaluation_json=canonical.encode({**evaluation, **damage}))
        assert value(broken, ROWS) == 400
        assert not [sample for sample in broken if sample.name == AUC]


def test_references_follow_a_promotion(control: Control) -> None:
    model = control.new_model(2, profile_json=make_profile().encode())
    for version in (1, 2):
        control.open_registry().promote(model, version, to="production", actor="ana", reason="go")
        samples = control.scrape()
        assert [sample.labels["version"] for sample in samples if sample.name == ROWS and sample.labels["model"] == model] == [str(version)]


def test_a_profile_that_cannot_be_read_is_left_out_and_the_scrape_goes_on(control: Control) -> None:
    broken, sound = (control.new_model(1, profile_json=make_profile(name).encode()) for name in ("x", "y"))
    digest = control.open_registry().manifest(broken, 1).file("profile.json").sha256
    (control.root / "blobs" / "sha256" / digest[:2] / digest).write_bytes(b"{}")
    for model in (broken, sound):
        control.open_registry().promote(model, 1, to="production", actor="ana", reason="go")
    seen = {sample.labels["model"] for sample in control.scrape() if sample.name == ROWS}
    assert sound in seen
    assert broken not in seen
    assert '"reference left out"' in control.program.log.read_text(encoding="utf-8")


def test_requests_are_counted_by_route_never_by_path(control: Control) -> None:
    model = control.new_model(1)
    control.http.get(f"/api/v1/models/{model}")
    control.http.get("/some/strange/path")
    control.http.request("BREW", "/api/v1/models")
    samples = control.scrape()
    requests = [sample for sample in samples if sample.name == "tidegate_http_requests_total"]
    assert value(requests, "tidegate_http_requests_total", route="/api/v1/models/{model}", method="GET", status="200") >= 1
    assert value(requests, "tidegate_http_requests_total", route="unmatched", status="404") >= 1
    assert not [
        sample for sample in requests if model in str(sample.labels) or "strange" in str(sample.labels) or "BREW" in str(sample.labels)
    ]
    assert value(samples, "tidegate_http_request_seconds_count", route="/api/v1/models/{model}") >= 1
