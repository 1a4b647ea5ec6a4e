"""The calls that read the registry: models, versions, states, logs, and the documents of a version."""

from enum import StrEnum
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response

from control_plane.models.card import CardRenderer
from control_plane.models.negotiation import HTML, MARKDOWN, negotiate
from control_plane.models.schemas import (
    LogPage,
    ModelSummary,
    StateView,
    VersionDetail,
    commit_view,
    model_summaries,
    state_view,
    version_detail,
)
from control_plane.parameters import time_parameter
from control_plane.registry_pool import LentRegistry
from registry import bundle
from registry.names import check_name
from registry.registry import Registry
from registry.state import ModelState

MAX_PAGE = 1000
_NOTHING_ACTIVE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(prefix="/api/v1/models", tags=["models"])


class Document(StrEnum):
    """The documents of a version, as they are asked for."""

    MODEL_CARD = "model-card"
    DATA_CARD = "data-card"
    FAIRNESS = "fairness"
    EVALUATION = "evaluation"


FILES = {
    Document.MODEL_CARD: bundle.MODEL_CARD,
    Document.DATA_CARD: bundle.DATA_CARD,
    Document.FAIRNESS: bundle.FAIRNESS,
    Document.EVALUATION: bundle.EVALUATION,
}


@router.get("")
def models(registry: LentRegistry) -> list[ModelSummary]:
    """All models, by name."""
    return model_summaries(registry)


@router.get("/{model}")
def model_state(model: str, registry: LentRegistry) -> StateView:
    """The present state of a model."""
    return state_view(registry.state(model))


@router.get("/{model}/versions/{version}")
def one_version(model: str, version: int, registry: LentRegistry) -> VersionDetail:
    """A version: its stage, files and facts."""
    return version_detail(registry, model, version)


@router.get("/{model}/log")
def log(
    model: str,
    registry: LentRegistry,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> LogPage:
    """The audit log, from its beginning or from behind commit `after`."""
    last = registry.state(model).seq
    commits = [commit_view(commit) for commit in islice(registry.log(model, after), limit)]
    more = bool(commits) and commits[-1].seq < last
    return LogPage(model=model, commits=commits, next_after=commits[-1].seq if more else None)


@router.get("/{model}/state")
def past_state(
    model: str, registry: LentRegistry, at: Annotated[str | None, Query(description="ISO 8601; UTC if it has no offset")] = None
) -> StateView:
    """The state as it was at a time; without one, as it is."""
    return state_view(registry.state(model) if at is None else _state_at(registry, model, at))


@router.get("/{model}/versions/{version}/{document}", response_class=Response)
def document_of(
    request: Request,
    model: str,
    version: int,
    document: Document,
    registry: LentRegistry,
    accept: Annotated[str, Header()] = "*/*",
    wanted: Annotated[str | None, Query(alias="format", description="json, html or md; goes before the Accept header")] = None,
) -> Response:
    """A document of a version: the registered JSON byte for byte, or rendered for people."""
    media_type = negotiate(accept, wanted)
    raw = registry.read(model, version, FILES[document])
    cards, heading = _cards(request), f"{document.replace('-', ' ').capitalize()}: {model}, version {version}"
    content: bytes | str = raw
    if media_type == HTML:
        content = cards.html(raw, heading)
    elif media_type == MARKDOWN:
        content = cards.markdown(raw, heading)
    return Response(content, media_type=media_type, headers={"Vary": "Accept", **_NOTHING_ACTIVE})


def _state_at(registry: Registry, model: str, text: str) -> ModelState:
    check_name(model)
    return registry.state_at(model, time_parameter("at", text))


def _cards(request: Request) -> CardRenderer:
    cards: CardRenderer = request.app.state.cards
    return cards
