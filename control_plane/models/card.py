"""A card as HTML or Markdown. Knows the shape of JSON and the word `charts`; what a card says is up to whoever wrote it.

A key becomes a heading or the first column of a table, a list of objects a table with their keys as columns. Nothing of a card reaches
the page unescaped, and charts only as images that passed `svg.refusal`.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from control_plane.models import svg
from registry import canonical
from registry.canonical import Json, JsonObject

_HIDDEN = frozenset({"format", "charts", "title"})
_FIRST = ("model", "purpose", "limits", "outcome", "evaluation", "fairness")
"""What a reader asks first; the rest follows by name."""
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


@dataclass(frozen=True)
class Chart:
    """A picture: a data URI, or an empty one and why it is left out."""

    title: str
    alt: str
    uri: str
    refusal: str | None


class CardRenderer:
    """Renders cards by the templates of this package."""

    def __init__(self) -> None:
        loader = jinja2.PackageLoader("control_plane.models")
        self._html = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )
        # Markdown has escapes of its own: every value of a card passes the filter `md`.
        self._markdown = self._html.overlay(autoescape=False)
        for environment in (self._html, self._markdown):
            environment.filters.update(heading=heading, label=label, scalar=scalar, md=escape_markdown)
            environment.tests.update(flat=is_flat, rows=is_rows, listing=is_listing)
            environment.globals.update(columns_of=columns_of)

    def html(self, raw: bytes, title: str) -> str:
        """A page of its own: no script, no asset from elsewhere.

        Raises:
            FormatError: if `raw` is not a JSON object.
        """
        return self._html.get_template("card.html.j2").render(_parts(raw, title))

    def markdown(self, raw: bytes, title: str) -> str:
        """Markdown with tables; of a chart, its title and its text.

        Raises:
            FormatError: if `raw` is not a JSON object.
        """
        return self._markdown.get_template("card.md.j2").render(_parts(raw, title))


def label(key: str) -> str:
    """A key as people write it, and a name as it is: `log_loss` -> `log loss`, `scikit-learn`."""
    return key.replace("_", " ").strip()


def heading(key: str) -> str:
    """A key as a heading: `onnx_parity` -> `Onnx parity`."""
    text = label(key)
    return text[:1].upper() + text[1:]


def scalar(value: Json) -> str:
    """A value without parts, as text: floats to six significant digits, lists joined."""
    match value:
        case None:
            return "—"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case list():
            return ", ".join(map(scalar, value)) or "—"
        case _:
            return str(value)


def escape_markdown(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line, in a table too."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))


def is_flat(value: Json) -> bool:
    """Whether a value fits one cell."""
    if isinstance(value, list):
        return not any(isinstance(item, Mapping | list) for item in value)
    return not isinstance(value, Mapping)


def is_listing(value: Json) -> bool:
    """Whether a value is a list of values without parts."""
    return isinstance(value, list) and bool(value) and is_flat(value)


def is_rows(value: Json) -> bool:
    """Whether a value is a list of objects with one cell per key: a table."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and all(map(is_flat, item.values())) for item in value)


def columns_of(rows: Sequence[JsonObject]) -> list[str]:
    """The keys of all rows, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _parts(raw: bytes, default_title: str) -> dict[str, object]:
    card = canonical.decode(raw, "the card")
    title = card.get("title")
    return {
        "title": title if isinstance(title, str) else default_title,
        "sections": {key: card[key] for key in (*(key for key in _FIRST if key in card), *sorted(card)) if key not in _HIDDEN},
        "charts": [_chart(item) for item in _objects(card.get("charts"))],
    }


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _chart(item: JsonObject) -> Chart:
    text = str(item.get("svg", ""))
    refusal = svg.refusal(text)
    encoded = base64.b64encode(text.encode()).decode()
    return Chart(
        title=str(item.get("title", "Chart")),
        alt=str(item.get("alt", "")),
        uri="" if refusal else f"data:image/svg+xml;base64,{encoded}",
        refusal=refusal,
    )
