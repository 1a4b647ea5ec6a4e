"""What Alertmanager tells is noted in the log of the model it is about, once, and nothing it says makes it tell the same for ever."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients.demo.programs import running
from control_plane.alerts.notices import MAX_LABEL_TEXT, MAX_LABELS
from control_plane.alerts.schemas import MAX_ALERTS
from registry.alert import noted_in
from tests.control_plane.conftest import Control
from tests.exposition import scrape, value
from tests.notifications import notice, notification

COUNTER = "tidegate_alerts_total"


def tell(control: Control, *notices: dict[str, Any], **changes: Any) -> httpx.Response:
    """Post a notification."""
    return control.http.post("/api/v1/alerts", json=notification(*notices, **changes))


def outcomes(answer: httpx.Response) -> dict[str, int]:
    """Those that occurred."""
    assert answer.status_code == 200, answer.text
    return {outcome: number for outcome, number in answer.json().items() if number}


def test_an_alert_becomes_a_note_that_says_what_and_since_when(control: Control) -> None:
    model = control.new_model(1)
    assert outcomes(tell(control, notice(model))) == {"noted": 1}
    *_, entry = control.open_registry().log(model)
    assert (entry.kind, entry.change.actor, entry.change.reason) == ("noted", "alertmanager", "TidegateDrift: income drifted")
    assert entry.payload["version"] == 1
    alert = noted_in(entry)
    assert alert is not None
    assert (alert.fingerprint, alert.status, alert.ends_at) == ("00c0ffee00c0ffee", "firing", None)
    assert alert.to_json()["starts_at"] == "2026-01-31T12:00:00.123456Z"
    assert alert.labels == {"alertname": "TidegateDrift", "severity": "ticket", "version": "1", "model": model}


def test_what_is_told_again_is_noted_once_and_its_end_is_noted_too(control: Control) -> None:
    model = control.new_model(1)
    ended = notice(model, status="resolved", endsAt="2026-01-31T15:00:00Z")
    told = [outcomes(tell(control, said)) for said in (notice(model), notice(model), ended, ended)]
    assert told == [{"noted": 1}, {"repeated": 1}, {"noted": 1}, {"repeated": 1}]
    listed = control.http.get(f"/api/v1/models/{model}/alerts").json()["alerts"]
    assert [(alert["status"], alert["summary"], alert["ends_at"]) for alert in listed] == [
        ("resolved", "TidegateDrift resolved: income drifted", "2026-01-31T15:00:00.000000Z"),
        ("firing", "TidegateDrift: income drifted", None),
    ]
    assert len(control.http.get(f"/api/v1/models/{model}/alerts", params={"limit": 1}).json()["alerts"]) == 1


def test_alerts_about_no_model_or_one_unknown_are_counted_and_never_refused(control: Control) -> None:
    model = control.new_model(1)
    foreign = notice("nobody", labels={"alertname": "Somebody's", "model": "nobody"})
    answer = tell(control, notice(None), foreign, notice("../../etc"), notice(model))
    assert outcomes(answer) == {"no_model": 1, "unknown_model": 2, "noted": 1}
    samples = control.scrape()
    assert value(samples, COUNTER, alert="TidegateDrift", status="firing", outcome="no_model") >= 1
    assert value(samples, COUNTER, alert="other", status="firing", outcome="unknown_model") >= 1
    assert {sample.labels["alert"] for sample in samples if sample.name == COUNTER} <= {"TidegateDrift", "other"}


@pytest.mark.parametrize("ended", ["0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-02:00", None])
def test_an_end_that_makes_no_sense_is_left_out(control: Control, ended: str | None) -> None:
    model = control.new_model(1)
    assert outcomes(tell(control, notice(model, status="resolved", endsAt=ended))) == {"noted": 1}
    (alert,) = control.http.get(f"/api/v1/models/{model}/alerts").json()["alerts"]
    assert (alert["status"], alert["ends_at"]) == ("resolved", None)


def test_what_an_alert_says_is_noted_within_bounds(control: Control) -> None:
    model = control.new_model(1)
    long = "x" * 2000
    labels = {**{f"a{number:03}": long for number in range(200)}, "alertname": long, "model": model}
    assert outcomes(tell(control, notice(model, labels=labels, annotations={"summary": "\n\u202e" + long}))) == {"noted": 1}
    *_, entry = control.open_registry().log(model)
    alert = noted_in(entry)
    assert alert is not None
    assert len(alert.labels) == MAX_LABELS
    assert alert.labels["model"] == model
    assert max(map(len, alert.labels.values())) == MAX_LABEL_TEXT
    assert len(entry.raw) < 10_000


def test_a_log_that_cannot_be_read_does_not_keep_the_others_from_being_noted(control: Control) -> None:
    broken, sound = control.new_model(1), control.new_model(1)
    first = control.root / "models" / broken / "log" / f"{1:020}.json"
    whole = first.read_bytes()
    try:
        first.write_bytes(b"{}")
        assert outcomes(tell(control, notice(broken), notice(sound))) == {"failed": 1, "noted": 1}
    finally:
        first.write_bytes(whole)  # every test of this folder has the same registry


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"version": "3"}, 422, "version"),
        ({"alerts": [{}]}, 422, "status"),
        ({"alerts": [notice("m", status="pending")]}, 422, "status"),
        ({"alerts": [notice("m", fingerprint="../x")]}, 422, "fingerprint"),
        ({"alerts": [notice("m", startsAt="soon")]}, 422, "startsAt"),
        ({"alerts": [notice("m", startsAt="2026-01-31T12:00:00")]}, 422, "timezone"),
        ({"alerts": [notice("m", startsAt="0001-01-01T00:00:00Z")]}, 422, "startsAt"),
        ({"alerts": [notice("m", startsAt="9999-12-31T23:59:59-02:00")]}, 422, "startsAt"),
        ({"alerts": [notice("m", labels={"model": 7})]}, 422, "labels"),
        ({"alerts": [notice("m")] * (MAX_ALERTS + 1)}, 422, f"at most {MAX_ALERTS}"),
        ({"alerts": None}, 422, "alerts"),
        ({"padding": "x" * 1_000_000}, 413, "larger than"),
    ],
)
def test_what_is_no_notification_is_a_problem_that_says_why(control: Control, change: dict[str, Any], status: int, words: str) -> None:
    answer = tell(control, **change)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"\xff", b'{"version": "4", "alerts": [{"labels": {"model": "\\ud800"}}]}'])
def test_a_body_that_is_no_json_object_is_refused(control: Control, body: bytes) -> None:
    answer = control.http.post("/api/v1/alerts", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def test_alerts_of_a_model_that_is_not_there_are_a_problem(control: Control) -> None:
    assert control.http.get("/api/v1/models/nobody/alerts").status_code == 404


def test_of_two_control_planes_told_at_once_one_notes(control: Control, tmp_path: Path) -> None:
    model = control.new_model(1)
    flags = {"registry": str(control.root), "http-address": "127.0.0.1:0"}
    with running("control_plane", flags, tmp_path / "second.log") as program, ThreadPoolExecutor(8) as threads:
        url = program.announcement.split()[-1]
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as other:
            both = [control, Control(program, other, control.root)] * 8
            told = [outcomes(answer) for answer in threads.map(lambda plane: tell(plane, notice(model)), both)]
        assert sorted(map(str, told)) == [str({"noted": 1})] + [str({"repeated": 1})] * 15
        counted = [*control.scrape(), *scrape(f"{url}/metrics")]
        assert value(counted, COUNTER, outcome="repeated") >= 15
    assert len(control.http.get(f"/api/v1/models/{model}/alerts").json()["alerts"]) == 1


def test_a_storage_that_does_not_take_it_makes_alertmanager_try_again(control: Control) -> None:
    model = control.new_model(1)
    occupied = control.root / "models" / model / "log" / f"{2:020}.json"
    occupied.mkdir()
    try:
        assert tell(control, notice(model)).status_code == 503
    finally:
        occupied.rmdir()
    assert outcomes(tell(control, notice(model))) == {"noted": 1}
