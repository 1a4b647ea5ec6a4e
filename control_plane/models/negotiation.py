"""Which of the representations of a document a caller wants. Pure; knows no document."""

from collections.abc import Mapping, Sequence

from control_plane.errors import NotAcceptableError, ParameterError

JSON = "application/json"
HTML = "text/html"
MARKDOWN = "text/markdown"
OFFERED = (JSON, HTML, MARKDOWN)
"""In the order of our preference."""
FORMATS: Mapping[str, str] = {"json": JSON, "html": HTML, "md": MARKDOWN, "markdown": MARKDOWN}


def negotiate(accept: str, wanted: str | None) -> str:
    """The media type to answer with: what `?format=` says, else the best of the `Accept` header, else JSON.

    Raises:
        ParameterError: for a format that is not one.
        NotAcceptableError: if the header allows none of ours.
    """
    if wanted is not None:
        if wanted not in FORMATS:
            raise ParameterError(f"format {wanted[:40]!r} is not one of {', '.join(FORMATS)}")
        return FORMATS[wanted]
    ranges = _ranges(accept) or [("*/*", 1.0)]
    best = max(OFFERED, key=lambda offered: _quality(offered, ranges))
    if _quality(best, ranges) == 0:
        raise NotAcceptableError(f"this document comes as {', '.join(OFFERED)}; the Accept header allows none of them")
    return best


def _ranges(accept: str) -> list[tuple[str, float]]:
    return [_range(part) for part in accept.split(",") if part.strip()]


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((value for name, _, value in (item.partition("=") for item in parameters) if name.strip() == "q"), "1")
    try:
        return media, float(quality)
    except ValueError:
        return media, 0.0


def _quality(offered: str, ranges: Sequence[tuple[str, float]]) -> float:
    # The most specific range that fits decides, whatever the others allow (RFC 9110, 12.5.1).
    for candidate in (offered, f"{offered.partition('/')[0]}/*", "*/*"):
        if found := [quality for media, quality in ranges if media == candidate]:
            return max(found)
    return 0.0
