"""A promotion or a rollback is one commit, or it is refused and nothing is written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control_plane.conftest import Control


def promote(control: Control, model: str, body: object, **headers: str) -> httpx.Response:
    return control.http.post(f"/api/v1/models/{model}/promotions", json=body, headers=headers)


def files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_promotion_answers_with_the_commit_it_made(control: Control) -> None:
    model = control.new_model()
    answer = promote(control, model, {"version": 2, "to": "production", "reason": "better"}, **{"X-Tidegate-Actor": "ben"})
    assert answer.status_code == 201
    made = list(control.open_registry().log(model))[-1]
    commit = answer.json()
    assert (commit["seq"], commit["digest"], commit["kind"]) == (made.seq, made.digest, "routed")
    assert (commit["actor"], commit["reason"], commit["payload"]) == ("ben", "better", {"stable": 2})
    assert control.open_registry().state(model).production == 2


def test_staging_and_production_are_different_stages(control: Control) -> None:
    model = control.new_model()
    assert promote(control, model, {"version": 1, "to": "staging", "reason": "look"}).json()["kind"] == "staged"
    assert promote(control, model, {"version": 2, "to": "production", "reason": "go"}).status_code == 201
    state = control.open_registry().state(model)
    assert (state.staging, state.production) == (1, 2)


def test_a_rollback_returns_to_the_version_before(control: Control) -> None:
    model = control.new_model()
    for version in (1, 2):
        promote(control, model, {"version": version, "to": "production", "reason": "go"})
    answer = control.http.post(f"/api/v1/models/{model}/rollbacks", json={"reason": "worse"})
    assert answer.status_code == 201
    assert answer.json()["payload"] == {"stable": 1}
    assert control.open_registry().state(model).production == 1


@pytest.mark.parametrize(
    ("header", "actor"), [(None, "anonymous"), (b"", "anonymous"), ("Zoë".encode(), "Zoë"), ("Zoë".encode("latin-1"), "Zoë")]
)
def test_the_audit_log_records_who_asked(control: Control, header: bytes | None, actor: str) -> None:
    model = control.new_model(1)
    headers = {} if header is None else {b"X-Tidegate-Actor": header}
    body = {"version": 1, "to": "staging", "reason": "look"}
    assert control.http.post(f"/api/v1/models/{model}/promotions", json=body, headers=headers).json()["actor"] == actor


REFUSED: list[tuple[Any, int, str]] = [
    ({"version": 1, "to": "production", "reason": "again"}, 409, "already in production"),
    ({"version": 9, "to": "production", "reason": "go"}, 404, "no version 9"),
    ({"version": 2, "to": "production", "reason": " "}, 409, "say the reason"),
    ({"version": 2, "to": "production", "reason": "x" * 1001}, 409, "at most 1000"),
    ({"version": 2, "to": "nowhere", "reason": "go"}, 422, "body.to"),
    ({"version": 0, "to": "staging", "reason": "go"}, 422, "body.version"),
    ({"version": "2", "to": "staging", "reason": "go"}, 422, "body.version"),
    ({"version": True, "to": "staging", "reason": "go"}, 422, "body.version"),
    ({"version": 2, "to": "staging"}, 422, "body.reason"),
    ({"version": 2, "to": "staging", "reason": "go", "resaon": "go"}, 422, "body.resaon"),
    ([], 422, "JSON object"),
]


@pytest.mark.parametrize(("body", "status", "words"), REFUSED)
def test_a_refused_promotion_says_why_and_writes_nothing(control: Control, body: object, status: int, words: str) -> None:
    model = control.new_model()
    promote(control, model, {"version": 1, "to": "production", "reason": "first"})
    before = files(control.root)
    answer = promote(control, model, body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]
    assert files(control.root) == before


def test_a_rollback_with_nothing_to_return_to_is_refused(control: Control) -> None:
    model = control.new_model()
    for expected in ("no earlier production route", "no earlier production route"):
        answer = control.http.post(f"/api/v1/models/{model}/rollbacks", json={"reason": "worse"})
        assert answer.status_code == 409
        assert expected in answer.json()["detail"]
        promote(control, model, {"version": 1, "to": "production", "reason": "first"})


@pytest.mark.parametrize("model", ["nobody", "No", "a%2fb"])
def test_nothing_is_written_for_a_model_that_is_not_there(control: Control, model: str) -> None:
    before = files(control.root)
    assert promote(control, model, {"version": 1, "to": "staging", "reason": "go"}).status_code in {400, 404}
    assert files(control.root) == before


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(b"{bad", "application/json"), (b'{"version":1,"to":"staging","reason":"a web page sent this"}', "text/plain")],
)
def test_a_body_that_is_not_declared_and_valid_json_is_refused(control: Control, content: bytes, media_type: str) -> None:
    model = control.new_model(1)
    answer = control.http.post(f"/api/v1/models/{model}/promotions", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == 422
    assert "JSON" in answer.json()["detail"]
    assert control.open_registry().state(model).staging is None


def test_a_body_too_large_is_refused(control: Control) -> None:
    answer = promote(control, control.new_model(1), {"version": 1, "to": "staging", "reason": "x" * 1_000_001})
    assert answer.status_code == 413


def test_of_many_equal_promotions_at_once_one_is_made(control: Control) -> None:
    model = control.new_model()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: promote(control, model, {"version": 2, "to": "production", "reason": "race"}), range(16)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 15
    assert [commit.seq for commit in control.open_registry().log(model)] == [1, 2, 3]
