"""The page of a model says what the daemons counted and which alerts were noted, to eyes and to screen readers, without a script."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.console.histogram import HEIGHT, WIDTH, bin_labels, draw
from registry import drift
from registry.profile import NumericFeature, Profile, categorical_feature, numeric_feature
from tests.control_plane.conftest import Control
from tests.control_plane.counted import register
from tests.notifications import notice, notification
from tests.registry.strategies import profiles

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)


def page(control: Control, model: str, **query: str) -> str:
    """The page of a model, after a look at what may not be on it."""
    answer = control.http.get(f"/models/{model}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "<script" not in answer.text
    assert "://" not in answer.text  # every link is to this server
    return answer.text


def test_the_drift_of_a_model_is_shown_as_a_table_and_a_histogram_with_words(control: Control) -> None:
    model = register(control.open_registry(), "shown")
    control.open_registry().promote(model, 1, to="production", actor="ana", reason="go")
    text = page(control, model)
    assert "Version 1, 8 rows since it was loaded. Nothing drifted." in text
    assert '<td class="number">0.125</td>' in text  # KS of 5, 3 against 4, 4
    (svg,) = SVG.findall(text)
    drawing = ET.fromstring(svg)  # noqa: S314 -- our own
    assert drawing.attrib["role"] == "img"
    named = {element.attrib["id"]: element.text for element in drawing if element.tag in {"title", "desc"}}
    assert list(named) == drawing.attrib["aria-labelledby"].split()
    assert "up to 1: 50.0% of the reference, 62.5% observed" in " ".join(map(str, named.values()))
    assert "62.5 %" in text[text.index("<details>") :]
    assert f'href="/models/{model}"' in control.http.get("/").text
    assert "Quality" not in text  # where no logs are read there is none to show


def test_a_feature_that_is_asked_for_is_drawn_and_else_the_worst(control: Control) -> None:
    model = register(control.open_registry(), "chosen")
    for feature in ("income", "no such feature", "<script>"):
        assert len(SVG.findall(page(control, model, version="1", feature=feature))) == 1


def test_where_no_daemon_answers_the_page_says_so(control: Control) -> None:
    model = register(control.open_registry(), "unavailable")
    control.open_registry().promote(model, 1, to="production", actor="ana", reason="go")
    text = page(control, model)
    assert "There are no counts to show: " in text
    assert "told to answer unavailable" in text
    assert "There are no counts to show: " in page(control, model, version="latest")
    assert control.http.get("/models/nobody").status_code == 404
    assert control.http.get("/models/..%2f..%2fetc").status_code == 404


def test_alerts_are_on_the_page_escaped(control: Control) -> None:
    model = control.new_model(1)
    assert "No alert has been noted." in page(control, model)
    told = notification(notice(model, annotations={"summary": "<b>income</b> drifted"}))
    assert control.http.post("/api/v1/alerts", json=told).json()["noted"] == 1
    text = page(control, model)
    assert "TidegateDrift: &lt;b&gt;income&lt;/b&gt; drifted" in text
    assert "in production" in text  # why there is no drift to show


@given(profiles(), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_every_bar_is_inside_the_picture_and_the_shares_are_those_of_the_counts(profile: Profile, seed: int, most: int) -> None:
    random = np.random.default_rng(seed)
    observed = [random.integers(0, most + 1, len(feature.bins)) for feature in profile.features]
    for feature in drift.evaluate(profile, observed):
        drawing = draw(feature)
        assert len(drawing.bars) == len(feature.bins) == len(set(bin_labels(feature)))
        for bar in drawing.bars:
            assert 0 <= bar.x <= bar.x + 2 * drawing.bar_width <= WIDTH + 1
            assert 0 <= bar.observed_y <= drawing.baseline < HEIGHT
            assert 0 <= bar.reference_y <= drawing.baseline
        assert sum(bar.observed for bar in drawing.bars) == pytest.approx(1 if feature.rows else 0)


def test_bins_are_named_as_people_read_them() -> None:
    age = numeric_feature("age", np.arange(100, dtype=np.float32))
    constant, kind = NumericFeature("constant", (), (3, 0)), categorical_feature("kind", ["a", "other", "missing"])
    profile = Profile(100, (age, constant, kind), ())
    labels = [bin_labels(feature) for feature in drift.evaluate(profile, [np.zeros(len(it.bins), np.int64) for it in profile.features])]
    assert labels[0][:2] == ("up to 4", "above 4 up to 9")
    assert labels[0][-2:] == ("above 94", "(missing)")
    assert labels[1] == ("any", "(missing)")
    assert labels[2] == ("a", "missing", "other", "(other)", "(missing)")
