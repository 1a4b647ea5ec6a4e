"""A notice of an alert is in the log once, whoever tells it and however often, and says which alert it is about."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import canonical
from registry.alert import ALERT, EARLIEST, Alert, Status, noted_in
from registry.canonical import JsonObject
from registry.commit import Change, Kind
from registry.errors import AlreadyNotedError, ModelUnknownError, RuleError
from registry.location import open_registry
from registry.registry import Registry
from registry.rules import check
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, Clock, new_registry, register
from tests.registry.strategies import texts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRING = Alert("00c0ffee00c0ffee", Status.FIRING, NOON, None, {"alertname": "TidegateDrift", "model": MODEL, "version": "1"})
RESOLVED = Alert(FIRING.fingerprint, Status.RESOLVED, NOON, NOON + timedelta(hours=1), FIRING.labels)
SCHEMA = Path(__file__).parents[2] / "docs" / "formats" / "commit.schema.json"

moments = st.datetimes(EARLIEST.replace(tzinfo=None), datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 -- the strategy adds it
alerts = st.builds(
    Alert,
    st.from_regex("[0-9a-f]{16}", fullmatch=True),
    st.sampled_from(Status),
    moments,
    st.none() | moments,
    st.dictionaries(texts, texts, max_size=4),
)


def note(registry: Registry, alert: Alert) -> int:
    return registry.note_alert(MODEL, alert, actor="alertmanager", reason="income drifted").seq


@given(alerts)
def test_an_alert_is_read_back_as_it_was_written(alert: Alert) -> None:
    assert Alert.from_json(alert.to_json()) == alert


def test_a_notice_is_noted_once_and_its_end_is_another_notice(registry: Registry) -> None:
    register(registry)
    assert note(registry, FIRING) == 2
    registry.note(MODEL, actor=ACTOR, reason="looking into it")
    with pytest.raises(AlreadyNotedError, match="commit 2 of 'mortgage-denial' notes this alert already"):
        note(registry, FIRING)
    assert note(registry, RESOLVED) == 4
    again = Alert(FIRING.fingerprint, Status.FIRING, NOON + timedelta(days=2), None, FIRING.labels)
    assert note(registry, again) == 5
    noted = [noted_in(entry) for entry in registry.log(MODEL)]
    assert noted == [None, FIRING, None, RESOLVED, again]
    schema = canonical.decode(SCHEMA.read_bytes(), "the schema")
    for entry in registry.log(MODEL):
        jsonschema.validate(entry.value, schema)
    assert examine(registry.store).problems == ()


@pytest.mark.parametrize(("said", "about"), [("1", 1), ("2", None), ("01", None), ("", None), ("\u0661", None)])
def test_a_notice_is_about_the_version_its_labels_name_if_there_is_one(registry: Registry, said: str, about: int | None) -> None:
    register(registry)
    alert = Alert(FIRING.fingerprint, Status.FIRING, NOON, None, {"version": said})
    assert registry.note_alert(MODEL, alert, actor="a", reason="r").payload.get("version") == about


def test_clocks_that_differ_by_hours_do_not_make_two_notes_of_one_notice(root: Path) -> None:
    clock = Clock()
    registry = new_registry(root)
    register(registry)
    for hours in (-20, 20):
        told = Alert(FIRING.fingerprint, Status.FIRING, clock.now + timedelta(hours=hours), None, {})
        note(registry, told)
        with pytest.raises(AlreadyNotedError):
            note(open_registry(str(root), clock), told)


def test_of_many_who_are_told_at_once_one_writes_the_note(root: Path) -> None:
    register(new_registry(root))
    start, outcomes = threading.Barrier(8), []

    def tell() -> None:
        mine = open_registry(str(root))
        start.wait()
        try:
            outcomes.append(note(mine, FIRING))
        except AlreadyNotedError:
            outcomes.append(0)

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0] * 7 + [2]
    assert [noted_in(entry) for entry in open_registry(str(root)).log(MODEL)] == [None, FIRING]


def test_an_alert_of_a_model_that_is_not_there_writes_nothing(registry: Registry) -> None:
    with pytest.raises(ModelUnknownError):
        note(registry, FIRING)
    assert registry.models() == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"fingerprint": "../../x"}, "16 hexadecimal digits"),
        ({"status": "pending"}, "'pending' is not a valid Status"),
        ({"starts_at": "soon"}, "Invalid isoformat"),
        ({"starts_at": "0001-01-01T00:00:00Z"}, "between 1970 and 9999"),
        ({"ends_at": "9999-12-31T23:59:59Z"}, "between 1970 and 9999"),
        ({"labels": {"a": 1}}, "labels holds something else"),
        ({"labels": []}, "labels is not an object"),
    ],
)
def test_a_note_that_holds_half_an_alert_is_refused(registry: Registry, wrong: JsonObject, says: str) -> None:
    register(registry)
    with pytest.raises(RuleError, match=says):
        check(registry.state(MODEL), Change(Kind.NOTED, {ALERT: {**FIRING.to_json(), **wrong}}, ACTOR, "why"))
    with pytest.raises(RuleError, match="alert is not an object"):
        check(registry.state(MODEL), Change(Kind.NOTED, {ALERT: "fire"}, ACTOR, "why"))
