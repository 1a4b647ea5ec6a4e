"""What is answered about models: the shapes of `registry.views`, so that the command and REST say the same. Times are UTC, ISO 8601."""

from typing import Any

from pydantic import BaseModel

from registry import views
from registry.commit import Commit
from registry.registry import Registry
from registry.state import ModelState


class ModelSummary(BaseModel):
    """A model in a list."""

    model: str
    versions: int
    """How many"""
    production: int | None
    staging: int | None
    updated: str | None
    """Time of the last commit"""


class VersionView(BaseModel):
    """A registered version, and who registered it."""

    version: int
    stage: str
    """`production`, `staging` or empty"""
    arm: str
    """`stable`, `canary`, `shadow` or empty"""
    percent: int
    """Of the production traffic it answers"""
    manifest: str
    """sha256 of the manifest"""
    registered: str
    actor: str
    reason: str
    retired: bool
    evidence: list[str]
    """Names of the evidence attached to it"""
    approved_by: list[str]
    signed_off: list[str]
    """Items of its checklist"""
    overridden: list[str]
    """Gates it may pass in spite of their refusal"""


class RouteView(BaseModel):
    """A production route: its versions, and the commit and time it began with."""

    stable: int
    split: dict[int, int]
    """Percent of the traffic by version, the stable one among them"""
    shadows: list[int]
    """Versions that get a copy of what is asked"""
    seq: int
    since: str


class StateView(BaseModel):
    """The state of a model after commit `seq` (0: before its first)."""

    model: str
    seq: int
    head: str | None
    """sha256 of commit `seq`"""
    updated: str | None
    production: int | None
    staging: int | None
    versions: list[VersionView]
    routes: list[RouteView]
    """The present route is the last; a rollback returns to the one before it"""


class FileView(BaseModel):
    """A file of a bundle; size in bytes."""

    sha256: str
    size: int


class VersionDetail(VersionView):
    """A version with its files and the facts its trainer stated."""

    model: str
    files: dict[str, FileView]
    facts: dict[str, Any]


class CommitView(BaseModel):
    """One entry of the audit log."""

    model: str
    seq: int
    digest: str
    """sha256 of this commit's bytes"""
    previous: str | None
    time: str
    kind: str
    actor: str
    reason: str
    payload: dict[str, Any]


class LogPage(BaseModel):
    """Some commits in order; `next_after` is the `after` of the next page, null at the end."""

    model: str
    commits: list[CommitView]
    next_after: int | None


def model_summaries(registry: Registry) -> list[ModelSummary]:
    """All models, by name."""
    return [ModelSummary.model_validate(model) for model in views.models(registry)]


def state_view(state: ModelState) -> StateView:
    """A state, all of it."""
    return StateView.model_validate(views.state(state))


def version_detail(registry: Registry, model: str, number: int) -> VersionDetail:
    """One version with what its manifest says.

    Raises:
        NotFoundError: if it is not registered.
    """
    return VersionDetail.model_validate(views.version(registry, model, number))


def commit_view(commit: Commit) -> CommitView:
    """One commit."""
    return CommitView.model_validate({"model": commit.model, "previous": commit.previous, **views.commit(commit)})
