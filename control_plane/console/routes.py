"""The index page: models, their versions and stages, and where to read on. No script, no asset from elsewhere."""

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from control_plane.models.routes import FILES
from control_plane.registry_pool import LentRegistry
from registry.registry import Registry
from registry.state import ModelState

_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

router = APIRouter()


class Pages:
    """The templates of the console."""

    def __init__(self) -> None:
        loader = jinja2.PackageLoader("control_plane.console")
        self._templates = jinja2.Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )

    def index(self, models: list[dict[str, object]]) -> str:
        """The page at /."""
        return self._templates.get_template("index.html.j2").render(models=models)


@router.get("/", include_in_schema=False)
def index(request: Request, registry: LentRegistry) -> HTMLResponse:
    """All models."""
    pages: Pages = request.app.state.pages
    models = [_model(registry, registry.state(name)) for name in registry.models()]
    return HTMLResponse(pages.index(models), headers=_POLICY)


def _model(registry: Registry, state: ModelState) -> dict[str, object]:
    return {
        "name": state.model,
        "production": state.production,
        "versions": [_version(registry, state, number) for number in sorted(state.versions)],
    }


def _version(registry: Registry, state: ModelState, number: int) -> dict[str, object]:
    files = registry.manifest(state.model, number).files
    return {
        "number": number,
        "stage": state.stage_of(number),
        "registered": state.version(number).registered.strftime("%Y-%m-%d %H:%M UTC"),
        "reason": state.version(number).reason,
        "documents": [document.value for document, file in FILES.items() if file in files],
    }
