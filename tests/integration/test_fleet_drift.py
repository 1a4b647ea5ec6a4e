"""Drift by REST and on the console is that of all daemons, whichever of them had the traffic."""

from pathlib import Path
from typing import Any

import numpy as np

from registry import drift
from registry.bundle import PROFILE
from registry.drift_limits import Limits, Window
from registry.location import open_registry
from registry.profile import parse
from tests.daemons import wait_until
from tests.fleet import MODEL, REFERENCE, Fleet, ask, fleet


def test_two_daemons_are_judged_as_one_and_one_that_is_gone_is_named(tmp_path: Path) -> None:
    with fleet(tmp_path, daemons=2) as running:
        for serving, shift in zip(running.daemons, (0.0, 2.0), strict=True):
            ask(serving, shift=shift)
        answer = running.http.get(f"/api/v1/models/{MODEL}/drift").json()
        assert (answer["rows"], answer["partial"]) == (2000, False)
        assert {"a", "score"} <= set(answer["drifted"])
        assert "b" not in answer["drifted"]
        reference = parse(open_registry(running.registry).read(MODEL, 1, PROFILE))
        feature = answer["features"][0]
        column = np.concatenate([REFERENCE[:, 0], REFERENCE[:, 0] + np.float32(2)])
        counts = reference.inputs[0].count(column)
        assert feature["observed"] == counts.tolist()
        assert feature["ks"] == drift.ks(counts, np.array(reference.inputs[0].reference))
        page = running.http.get(f"/models/{MODEL}").text
        assert "2000 rows since it was loaded" in page
        assert "<strong>drifted</strong>" in page

        running.daemons[0].program.stop()
        answer = running.http.get(f"/api/v1/models/{MODEL}/drift").json()
        assert (answer["rows"], answer["partial"]) == (1000, True)
        assert [daemon["rows"] for daemon in answer["daemons"]] == [None, 1000]
        assert "Not all daemons answered" in running.http.get(f"/models/{MODEL}").text


def windows(running: Fleet, **asked: str) -> dict[str, Any]:
    """What is told of the last completed window of a thousand rows."""
    answer: dict[str, Any] = running.http.get(f"/api/v1/models/{MODEL}/drift", params={"window": "1000rows", **asked}).json()
    return answer


def test_the_last_windows_of_all_daemons_are_judged_together_and_what_lasted_at_one_has_lasted(tmp_path: Path) -> None:
    with fleet(tmp_path, daemons=2, limits=Limits(windows=(Window(rows=1000),))) as running:
        early = windows(running)
        assert (early["rows"], early["started"], early["ended"], early["features"], early["partial"]) == (0, None, None, [], False)
        page = running.http.get(f"/models/{MODEL}", params={"window": "1000rows"}).text
        assert "No such window has been completed yet." in page

        first, second = running.daemons
        for times in (1, 2):  # one window after the other: counts that come at once would be one
            ask(first, shift=2.0)
            wait_until(lambda times=times: windows(running)["rows"] == 1000 and _everything(running) == 1000 * times, "no window")  # type: ignore[misc]
        answer = windows(running)
        assert [(daemon["rows"], "a" in daemon["persistent"]) for daemon in answer["daemons"]] == [(1000, True), (0, False)]
        assert {"a"} <= {feature["name"] for feature in answer["features"] if feature["persistent"]} == set(answer["persistent"])
        assert 0 < answer["ended"] - answer["started"] < 600

        ask(second)
        wait_until(lambda: windows(running)["rows"] == 2000, "the second daemon has no window")
        answer = windows(running)
        assert [(daemon["rows"], "a" in daemon["persistent"]) for daemon in answer["daemons"]] == [(1000, True), (1000, False)]
        assert sum(answer["features"][0]["observed"]) == 2000
        assert windows(running, arm="canary")["rows"] == 0
        page = running.http.get(f"/models/{MODEL}", params={"window": "1000rows", "arm": "stable"}).text
        assert "2000 rows in the last completed window of 1000rows" in page
        assert '<option value="stable" selected>' in page
        assert f"at {first.address}" in page

        refused = running.http.get(f"/api/v1/models/{MODEL}/drift", params={"window": "2h"})
        assert (refused.status_code, "1000rows" in refused.json()["detail"]) == (400, True)
        refused = running.http.get(f"/api/v1/models/{MODEL}/drift", params={"arm": "left"})
        assert (refused.status_code, "canary" in refused.json()["detail"]) == (400, True)
        assert "no window" in running.http.get(f"/models/{MODEL}", params={"window": "&lt;script>"}).text


def _everything(running: Fleet) -> int:
    return int(running.http.get(f"/api/v1/models/{MODEL}/drift").json()["rows"])
