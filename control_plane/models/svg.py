"""Whether a chart may be shown: a picture and nothing else. Pure.

A page shows charts as images, in which browsers run no script and load nothing; this check is for who saves one and opens it by itself.
"""

import re
from collections.abc import Iterator

# Entities are refused before the parser sees them, and with them what the parser could be attacked with.
from xml.etree import ElementTree as ET

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_FORBIDDEN = frozenset({"script", "foreignobject", "iframe", "embed", "object", "audio", "video", "handler", "set", "animate"})
_PROLOGUE = re.compile(r"<!(?!--)|<\?(?!xml\s)")
_OUTSIDE = re.compile(r"url\s*\(\s*['\"]?(?!\s*['\"]?#)|@import|javascript:|expression\s*\(", re.IGNORECASE)


def refusal(text: str) -> str | None:
    """Why `text` is not shown as a chart, or None if it may be."""
    if _PROLOGUE.search(text):
        return "it has a document type, entities or processing instructions"
    try:
        root = ET.fromstring(text)  # noqa: S314 -- see above
    except ET.ParseError:
        return "it is not XML"
    if root.tag != f"{_NAMESPACE}svg":
        return "it is not SVG"
    return next((reason for element in root.iter() for reason in _reasons(element)), None)


def _reasons(element: ET.Element) -> Iterator[str]:
    tag = str(element.tag).rpartition("}")[2].lower()
    if tag in _FORBIDDEN or not str(element.tag).startswith(_NAMESPACE):
        yield f"it has the element {tag!r}"
    if tag == "style" and _OUTSIDE.search("".join(element.itertext())):
        yield "its style refers to something outside"
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2].lower()
        if name.startswith("on"):
            yield f"it has the event handler {name!r}"
        elif name in {"href", "src"} and not value.strip().startswith("#"):
            yield f"it refers to {value[:40]!r}"
        elif _OUTSIDE.search(value):
            yield f"its attribute {name!r} refers to something outside"
