"""Drift by REST and on the console is that of all daemons, whichever of them had the traffic."""

from pathlib import Path

import numpy as np

from registry import drift
from registry.bundle import PROFILE
from registry.location import open_registry
from registry.profile import parse
from tests.fleet import MODEL, REFERENCE, ask, fleet


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
