"""A card comes as JSON, HTML or Markdown, says what was registered, and brings nothing active with it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import NotAcceptableError
from control_plane.models import svg
from control_plane.models.card import CardRenderer
from control_plane.models.negotiation import HTML, JSON, MARKDOWN, negotiate
from tests.control_plane.conftest import Control

CHART = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><style>path{fill:url(#a)}</style><path d="M0 0h9"/></svg>'
CARD = {
    "format": "tidegate.model_card/1",
    "model": "mortgage-denial",
    "purpose": "Shows <b>where</b> | it works",
    "limits": ["Not for people", "one *market* only"],
    "evaluation": {"auc": {"value": 0.8125, "low": 0.79, "high": 0.83}},
    "fairness": {"groups": [{"group": "white", "approved": 0.9}, {"group": "black", "approved": 0.75, "rows": 100}]},
    "tables": [{"threshold": 0.5, "precision": 1 / 3}, {"threshold": 0.7, "precision": None}],
    "charts": [{"title": "ROC", "svg": CHART, "alt": "True against false positives"}],
}
RAW = json.dumps(CARD).encode()


def test_json_is_the_registered_file_byte_for_byte(control: Control) -> None:
    model = control.new_model(1, model_card_json=RAW, fairness_json=b'{"a": 1}')
    answer = control.http.get(f"/api/v1/models/{model}/versions/1/model-card")
    assert (answer.content, answer.headers["content-type"]) == (RAW, "application/json")
    assert control.http.get(f"/api/v1/models/{model}/versions/1/fairness").content == b'{"a": 1}'


@pytest.mark.parametrize(
    ("accept", "parameters", "media_type"),
    [
        ("text/html", {}, "text/html"),
        ("text/markdown", {}, "text/markdown"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", {}, "text/html"),
        ("application/json", {"format": "md"}, "text/markdown"),
        ("image/png", {"format": "html"}, "text/html"),
    ],
)
def test_the_caller_chooses_the_representation(control: Control, accept: str, parameters: dict[str, str], media_type: str) -> None:
    model = control.new_model(1, model_card_json=RAW)
    answer = control.http.get(f"/api/v1/models/{model}/versions/1/model-card", headers={"Accept": accept}, params=parameters)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "mortgage-denial" in answer.text


def test_a_representation_that_does_not_exist_is_refused(control: Control) -> None:
    path = f"/api/v1/models/{control.new_model(1, model_card_json=RAW)}/versions/1/model-card"
    assert control.http.get(path, headers={"Accept": "image/png"}).status_code == 406
    assert control.http.get(path, params={"format": "pdf"}).status_code == 422


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/*", HTML),
        ("text/html;q=0.5, text/markdown", MARKDOWN),
        ("text/html;q=0, */*", JSON),
        ("TEXT/HTML;level=1", HTML),
        ("application/json;q=0, text/html;q=0, */*;q=0.1", MARKDOWN),
    ],
)
def test_the_accept_header_decides_by_quality_and_the_most_specific_range(accept: str, expected: str) -> None:
    assert negotiate(accept, None) == expected


@given(st.text(max_size=60))
def test_no_accept_header_breaks_the_choice(accept: str) -> None:
    with contextlib.suppress(NotAcceptableError):
        assert negotiate(accept, None) in {JSON, HTML, MARKDOWN}


def test_html_shows_every_value_and_escapes_it() -> None:
    page = CardRenderer().html(RAW, "Model card")
    for shown in ("Shows &lt;b&gt;where&lt;/b&gt; | it works", "0.8125", "0.333333", "black", "Not for people", "<h2>Fairness</h2>"):
        assert shown in page
    assert "<b>" not in page
    assert 'alt="True against false positives"' in page
    assert 'src="data:image/svg+xml;base64,' in page
    assert "tidegate.model_card/1" not in page


def test_markdown_shows_every_value_and_escapes_it() -> None:
    text = CardRenderer().markdown(RAW, "Model card")
    for shown in (
        "# Model card",
        "Shows \\<b\\>where\\</b\\> \\| it works",
        "| threshold | precision |\n| --- | --- |\n| 0.5 | 0.333333 |\n| 0.7 | — |",
        "- Not for people\n- one \\*market\\* only\n",
        "  - **value**: 0.8125",
        "- **ROC**: True against false positives",
    ):
        assert shown in text
    assert "<svg" not in text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("<>&\"'`|*a\n", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("<&a_", max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["limits", "evaluation", "charts", "title", "<i>"]), json_values, max_size=4))
def test_a_card_of_any_shape_renders_and_none_brings_markup(card: dict[str, object]) -> None:
    raw, renderer = json.dumps(card).encode(), CardRenderer()
    empty = renderer.html(b"{}", "x")
    known = {"table", "tr", "th", "td", "p", "ul", "li", "h1", "h2", "figure", "figcaption", "img"}
    page = renderer.html(raw, "x")
    tags = {part.split(">")[0].split()[0].strip("/") for part in page[page.index("<body>") + 6 : page.index("</body>")].split("<")[1:]}
    assert tags <= known
    assert page[: page.index("<title>")] == empty[: empty.index("<title>")]
    assert "<" not in renderer.markdown(raw, "x").replace("\\<", "")


SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'


@pytest.mark.parametrize(
    "bad",
    [
        SVG.format("<script>alert(1)</script>"),
        SVG.format('<path onload="alert(1)"/>'),
        SVG.format('<path ONCLICK="alert(1)"/>'),
        SVG.format('<a xlink:href="javascript:alert(1)"><path/></a>'),
        SVG.format('<image href="http://example.org/a.png"/>'),
        SVG.format('<use xlink:href="other.svg#a"/>'),
        SVG.format("<style>@import 'http://example.org/a.css';</style>"),
        SVG.format("<style>path{fill:url('http://example.org/a')}</style>"),
        SVG.format('<path style="fill:url(//example.org/a)"/>'),
        SVG.format('<foreignObject><body xmlns="http://www.w3.org/1999/xhtml"/></foreignObject>'),
        SVG.format('<animate attributeName="href" to="javascript:alert(1)"/>'),
        '<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format("&a;"),
        '<svg xmlns="http://www.w3.org/1999/xhtml"/>',
        '<?xml-stylesheet href="http://example.org/a.css"?>' + SVG.format(""),
        "not xml",
        "",
    ],
)
def test_a_chart_with_anything_active_or_from_outside_is_not_shown(bad: str) -> None:
    assert svg.refusal(bad) is not None
    page = CardRenderer().html(json.dumps({"charts": [{"title": "ROC", "svg": bad}]}).encode(), "x")
    assert "This chart is not shown" in page
    assert "<img" not in page


def test_what_a_reader_asks_first_comes_first() -> None:
    text = CardRenderer().markdown(RAW, "Model card")
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Model", "Purpose", "Limits", "Evaluation", "Fairness", "Tables", "Charts"]


def test_a_plain_chart_is_shown() -> None:
    assert svg.refusal(CHART) is None
    assert svg.refusal(SVG.format('<!-- made by hand --><use href="#a"/>')) is None
