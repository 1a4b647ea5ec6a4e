"""What Prometheus scrapes: references as the profiles have them, requests with bounded labels."""

import numpy as np
import pytest

from registry.profile import NumericFeature, Profile, categorical_feature, numeric_feature
from tests.control_plane.conftest import Control
from tests.exposition import value

SHARE, CDF, ROWS = "tidegate_drift_reference_share", "tidegate_drift_reference_cdf", "tidegate_drift_reference_rows"


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
