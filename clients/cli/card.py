"""`tidegate card`: the model card of a version. What it says is training's; it looks as the control plane shows it, by the same code."""

from enum import StrEnum
from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.options import AsJson, Model, RegistryUrl, Version
from control_plane.models.card import CardRenderer
from registry import bundle
from registry.canonical import decode
from registry.location import open_registry


class Format(StrEnum):
    """How a card is written."""

    MARKDOWN = "md"
    HTML = "html"
    JSON = "json"


def card(
    model: Model,
    version: Version,
    form: Annotated[Format, typer.Option("--format", help="How it is written; html is one file that needs no other.")] = Format.MARKDOWN,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Write the model card of a version.

    \b
    Example:
      tidegate card churn 2 --format html > churn-2.html
    """
    raw = open_registry(registry).read(model, version, bundle.MODEL_CARD)
    if as_json or form is Format.JSON:
        output.write_json(decode(raw, bundle.MODEL_CARD))
        return
    write = CardRenderer().html if form is Format.HTML else CardRenderer().markdown
    output.write_document(write(raw, f"Model card: {model}, version {version}"))
