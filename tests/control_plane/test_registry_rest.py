"""What REST tells of the registry is what the registry holds."""

from datetime import UTC, datetime, timedelta

import pytest

from registry import views
from tests.control_plane.conftest import Control


def test_a_model_its_versions_and_its_stages_are_told(control: Control) -> None:
    model = control.new_model()
    control.open_registry().promote(model, 2, to="production", actor="ben", reason="best")
    listed = {entry["model"]: entry for entry in control.http.get("/api/v1/models").json()}
    assert (listed[model]["production"], listed[model]["versions"]) == (2, 2)
    assert control.http.get(f"/api/v1/models/{model}").json() == views.state(control.open_registry().state(model))
    detail = control.http.get(f"/api/v1/models/{model}/versions/2").json()
    assert detail == views.version(control.open_registry(), model, 2)
    assert (detail["stage"], detail["facts"]) == ("production", {"auc": 0.5})


def test_what_another_process_commits_is_seen_at_the_next_request(control: Control) -> None:
    model = control.new_model()
    assert control.http.get(f"/api/v1/models/{model}").json()["staging"] is None
    control.open_registry().promote(model, 1, to="staging", actor="ben", reason="look")
    assert control.http.get(f"/api/v1/models/{model}").json()["staging"] == 1


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
def test_the_pages_of_a_log_hold_every_commit_once_in_order(control: Control, limit: int) -> None:
    model = control.new_model(6)
    after: int | None = 0
    seen = []
    while after is not None:
        page = control.http.get(f"/api/v1/models/{model}/log", params={"after": after, "limit": limit}).json()
        assert len(page["commits"]) <= limit
        seen += page["commits"]
        after = page["next_after"]
    assert [commit["seq"] for commit in seen] == [1, 2, 3, 4, 5, 6]
    assert [commit["previous"] for commit in seen[1:]] == [commit["digest"] for commit in seen[:-1]]


def test_the_past_is_told_as_it_was(control: Control) -> None:
    model = control.new_model()
    control.open_registry().promote(model, 1, to="production", actor="ben", reason="first")
    between = control.open_registry().state(model).routes[-1].since
    control.open_registry().promote(model, 2, to="production", actor="ben", reason="second")
    path = f"/api/v1/models/{model}/state"
    assert control.http.get(path).json()["production"] == 2
    assert control.http.get(path, params={"at": between.isoformat()}).json()["production"] == 1
    # A "+" that nobody encoded is a space to the server, and the offset is meant all the same.
    assert control.http.get(f"{path}?at={between.isoformat()}").json()["production"] == 1
    long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    assert control.http.get(path, params={"at": long_ago}).json()["versions"] == []


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/models/nobody", 404, "no model 'nobody'"),
        ("/api/v1/models/nobody/log", 404, "no model 'nobody'"),
        ("/api/v1/models/Nobody", 400, "not allowed"),
        ("/api/v1/models/..", 404, ""),
        ("/api/v1/models/%2e%2e%2fother", 404, ""),
        ("/api/v1/models/{model}/versions/9", 404, "no version 9"),
        ("/api/v1/models/{model}/versions/0", 404, "no version 0"),
        ("/api/v1/models/{model}/versions/x", 422, "path.version"),
        ("/api/v1/models/{model}/log?limit=0", 422, "query.limit"),
        ("/api/v1/models/{model}/state?at=yesterday", 422, "2026-01-31T12:00:00Z"),
        ("/api/v1/models/{model}/versions/1/model-card", 404, "has no model_card.json"),
        ("/api/v1/models/{model}/versions/1/secrets", 422, "path.document"),
        ("/api/v1/nothing", 404, ""),
    ],
)
def test_what_is_not_there_is_a_problem_that_says_what(control: Control, path: str, status: int, words: str) -> None:
    answer = control.http.get(path.format(model=control.new_model(1)))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:tidegate:problem:")
    assert words in problem["detail"]
    assert "\n" not in problem["detail"]


def test_an_altered_file_is_told_and_not_handed_out(control: Control) -> None:
    model = control.new_model(1, model_card_json=b'{"purpose": "altered soon"}')
    digest = control.open_registry().manifest(model, 1).files["model_card.json"].sha256
    (control.root / "blobs" / "sha256" / digest[:2] / digest).write_bytes(b'{"purpose": "other"}')
    answer = control.http.get(f"/api/v1/models/{model}/versions/1/model-card")
    assert answer.status_code == 500
    assert "run verify" in answer.json()["detail"]


def test_the_index_page_lists_models_and_escapes_what_people_wrote(control: Control) -> None:
    model = control.new_model(1, model_card_json=b"{}")
    registry = control.open_registry()
    bundle = {"model.onnx": registry.read(model, 1, "model.onnx"), "signature.json": registry.read(model, 1, "signature.json")}
    registry.register(model, bundle, {}, actor="ana", reason="<script>alert(1)</script>")
    page = control.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert f"/api/v1/models/{model}/versions/1/model-card?format=html" in page.text
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "://" not in page.text  # every link is to this server


def test_the_api_is_described_and_the_process_answers_for_its_health(control: Control) -> None:
    assert "/api/v1/models/{model}/promotions" in control.http.get("/openapi.json").json()["paths"]
    assert control.http.get("/docs").status_code == 404
    assert control.http.get("/api/v1/health").json() == {"live": True}
