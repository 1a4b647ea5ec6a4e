"""Drift of a fleet is the drift of all its rows: counts are added up, judged once, and whoever did not answer is named."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.demo.programs import running
from control_plane.drift.fleet import DaemonRows, together
from control_plane.errors import DaemonsDisagreeError
from registry import drift
from registry.location import create_registry
from registry.profile import NumericFeature, Profile
from tests.control_plane.conftest import Control
from tests.control_plane.counted import PROFILE, register
from tests.control_plane.oip_server import REASON, echo_server
from tests.registry.strategies import profiles
from tidegate_client import Drift, FeatureDrift, NotFoundError, TidegateError, UnavailableError


def counted(profile: Profile, observed: list[list[int]], version: str = "1", lasting: Sequence[str] = (), ended: float = 160.0) -> Drift:
    """What a daemon that counted `observed` answers; its own verdict is nonsense, so that nobody can have used it."""
    features = [
        FeatureDrift(
            feature.name,
            "numeric",
            feature.bins,
            tuple(counts),
            feature.reference,
            99.0,
            99.0,
            0.0,
            drifted=True,
            persistent=feature.name in lasting,
        )
        for feature, counts in zip(profile.features, observed, strict=True)
    ]
    return Drift("m", version, max((sum(counts) for counts in observed), default=0), tuple(features), "1h", "canary", ended - 60, ended)


@given(profiles(), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_counts_of_several_daemons_are_judged_as_those_of_one_that_had_seen_it_all(profile: Profile, daemons: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shares = [[random.integers(0, 1000, len(feature.bins)) for feature in profile.features] for _ in range(daemons)]
    whole = [np.sum(parts, axis=0) for parts in zip(*shares, strict=True)]
    answers = {f"d{place}:1": counted(profile, [part.tolist() for part in parts]) for place, parts in enumerate(shares)}
    fleet = together("m", 1, profile, {**answers, "gone:1": UnavailableError("gone")})
    assert fleet.features == drift.evaluate(profile, whole)
    assert fleet.rows == sum(answer.rows for answer in answers.values())
    assert (fleet.partial, fleet.daemons[-1].error) == (True, "gone")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            counted(Profile(8, (NumericFeature("income", (2.0,), (4, 4, 0)),), ()), [[1, 2, 3]]),
            r"b:1 .* bins \(2, inf, .* bins \(1, inf",
        ),
        (counted(Profile(8, (NumericFeature("age", (1.0,), (4, 4, 0)),), ()), [[1, 2, 3]]), "b:1 counts 'age' in 3 bins .* has no bins"),
        (counted(Profile(8, PROFILE.inputs * 2, ()), [[1, 2, 3]] * 2), "b:1 counts 'income'"),
        (counted(Profile(8, (), ()), []), "of a:1 and b:1 only one counts 'income'"),
        (counted(PROFILE, [[1, 2, 3]], version="2"), "b:1 told the counts of version 2"),
    ],
)
def test_counts_in_other_bins_are_not_added_up_and_it_is_said_whose_they_are(answer: Drift, says: str) -> None:
    with pytest.raises(DaemonsDisagreeError, match=says):
        together("m", 1, PROFILE, {"a:1": counted(PROFILE, [[1, 2, 3]]), "b:1": answer})


@given(profiles(), st.data())
def test_features_that_no_daemon_has_a_column_for_are_named_and_the_others_judged(profile: Profile, data: st.DataObject) -> None:
    kept = [data.draw(st.booleans()) for _ in profile.features]
    features = [feature for feature, keep in zip(profile.features, kept, strict=True) if keep]
    answer = counted(Profile(profile.rows, tuple(features), ()), [list(feature.reference) for feature in features])
    fleet = together("m", 1, profile, {"a:1": answer, "b:1": answer})
    assert [feature.name for feature in fleet.features] == [feature.name for feature in features]
    assert sorted([*fleet.uncounted, *(feature.name for feature in features)]) == sorted(feature.name for feature in profile.features)
    for found, feature in zip(fleet.features, features, strict=True):
        assert found.observed == tuple(2 * count for count in feature.reference)


def test_the_time_of_a_fleet_is_that_of_all_its_daemons_and_a_drift_has_lasted_where_it_has_at_any() -> None:
    answers: dict[str, Drift | TidegateError] = {
        "a:1": counted(PROFILE, [[1, 2, 3]], ended=300.0),
        "b:1": counted(PROFILE, [[1, 2, 3]], lasting=["income"], ended=360.0),
        "gone:1": UnavailableError("gone"),
    }
    fleet = together("m", 1, PROFILE, answers)
    assert (fleet.window, fleet.arm, fleet.started, fleet.ended) == ("1h", "canary", 240.0, 360.0)
    assert fleet.persistent == ("income",)
    assert [daemon.persistent for daemon in fleet.daemons] == [(), ("income",), ()]
    assert not fleet.features[0].drifted
    assert fleet.windows == ("1h", "6h", "24h", "10000rows")


def test_a_daemon_that_has_not_completed_such_a_window_takes_part_with_no_rows() -> None:
    waiting = Drift("m", "1", 0, (), "1h", "canary", started=7.0, ended=0.0, uncounted=("income",))
    beside = together("m", 1, PROFILE, {"a:1": waiting, "b:1": counted(PROFILE, [[1, 2, 3]]), "c:1": waiting})
    assert beside == replace(
        together("m", 1, PROFILE, {"b:1": counted(PROFILE, [[1, 2, 3]])}),
        daemons=(DaemonRows("a:1", 0, (), None), DaemonRows("b:1", 6, (), None), DaemonRows("c:1", 0, (), None)),
    )
    alone = together("m", 1, PROFILE, {"a:1": waiting})
    assert (alone.rows, alone.started, alone.ended, alone.features, alone.partial) == (0, None, None, (), False)
    assert (alone.window, alone.uncounted) == ("1h", ("income",))


def test_that_a_daemon_is_down_goes_before_that_another_does_not_know_the_version() -> None:
    with pytest.raises(UnavailableError):
        together("m", 1, PROFILE, {"a:1": NotFoundError("never heard of it"), "b:1": UnavailableError("down")})


@contextmanager
def plane(folder: Path, *daemons: str) -> Iterator[httpx.Client]:
    """A control plane of its own that asks these daemons; its registry has the model `m`, version 1 in production."""
    registry = create_registry(str(folder / "registry"))
    registry.promote(register(registry, "m"), 1, to="production", actor="ana", reason="go")
    flags = {"registry": str(folder / "registry"), "http-address": "127.0.0.1:0", "daemon": ",".join(daemons)}
    with running("control_plane", flags, folder / "log") as program:
        url = re.findall(r"http://\S+", program.announcement)[0]
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
            yield http


def test_every_daemon_is_asked_and_one_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with echo_server() as first, plane(tmp_path, first, "127.0.0.1:1") as http:
        answer = http.get("/api/v1/models/m/drift").json()
        assert (answer["version"], answer["rows"], answer["partial"]) == (1, 8, True)
        there, gone = answer["daemons"]
        assert there == {"daemon": first, "rows": 8, "persistent": ["income"], "error": None}
        assert (gone["daemon"], gone["rows"]) == ("127.0.0.1:1", None)
        assert gone["error"]


def test_counts_are_added_up_and_judged_by_the_profile_of_the_registry(tmp_path: Path) -> None:
    with echo_server() as first, echo_server() as second, plane(tmp_path, first, second) as http:
        answer = http.get("/api/v1/models/m/drift", params={"version": "1"}).json()
    assert (answer["rows"], answer["partial"], answer["drifted"], answer["warned"]) == (16, False, [], [])
    assert (answer["started"], answer["ended"], answer["persistent"], answer["features"][0]["persistent"]) == (100, 160, ["income"], True)
    (feature,) = answer["features"]
    assert (feature["observed"], feature["reference"], feature["rows"]) == ([10, 6, 0], [4, 4, 0], 16)
    assert feature["ks"] == 0.125
    assert feature["psi"] == pytest.approx(drift.psi(np.array([10, 6, 0]), np.array([4, 4, 0])))


def test_without_any_daemon_there_is_no_answer_rather_than_zero_rows(tmp_path: Path) -> None:
    with plane(tmp_path, "127.0.0.1:1", "127.0.0.1:2") as http:
        answer = http.get("/api/v1/models/m/drift")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


def test_a_version_without_a_profile_an_empty_stage_and_no_version_are_problems(control: Control) -> None:
    model = control.new_model(1)
    for version, status, words in [
        ("", 404, "in production"),
        ("staging", 404, "in staging"),
        ("1", 404, "profile.json"),
        ("2", 404, "no version 2"),
        ("latest", 422, "is no version"),
        ("9" * 30, 422, "is no version"),
    ]:
        answer = control.http.get(f"/api/v1/models/{model}/drift", params={"version": version})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert words in answer.json()["detail"]
    assert control.http.get("/api/v1/models/nobody/drift").status_code == 404


def test_what_all_daemons_refuse_is_refused_with_their_reason(control: Control) -> None:
    register(control.open_registry(), "not-found")
    refused = control.http.get("/api/v1/models/not-found/drift", params={"version": "1"})
    assert (refused.status_code, refused.json()["reason"]) == (404, REASON)


def test_counts_of_another_profile_are_a_problem_that_names_the_daemon(control: Control, oip_address: str) -> None:
    other = Profile(8, (NumericFeature("income", (7.0,), (4, 4, 0)),), ())
    register(control.open_registry(), "other-bins", other)
    refused = control.http.get("/api/v1/models/other-bins/drift", params={"version": "1"})
    assert (refused.status_code, refused.json()["type"]) == (502, "urn:tidegate:problem:daemons-disagree")
    assert oip_address in refused.json()["detail"]
