"""Where the objects of the control plane are wired. Nothing is made at import."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI
from fastapi.middleware import Middleware

from control_plane import http_errors, metrics
from control_plane.access_log import AccessLog, BodyLimit
from control_plane.alerts import routes as alerts
from control_plane.alerts.metrics import AlertMetrics
from control_plane.console import routes as console
from control_plane.drift import routes as drift
from control_plane.drift.reference import ReferenceCollector
from control_plane.errors import ParameterError, SettingsError
from control_plane.inference import routes as inference
from control_plane.inference.daemons import Daemons
from control_plane.metrics import HttpMetrics
from control_plane.models import routes as models
from control_plane.models.card import CardRenderer
from control_plane.promotions import routes as promotions
from control_plane.quality import routes as quality
from control_plane.quality.collector import QualityCollector
from control_plane.quality.desk import QualityDesk
from control_plane.quality.span import parse_age
from control_plane.registry_pool import RegistryPool
from control_plane.settings import Settings
from registry.location import Keys
from tidegate_client import InputError, tls_credentials, token_file

DESCRIPTION = "Models, versions, promotions and cards of a registry; inference by the Open Inference Protocol under /v2."


def create_app(settings: Settings) -> FastAPI:
    """The application of one process.

    Raises:
        RegistryError: if there is no registry where the settings say.
        SettingsError: if the daemons cannot be spoken to as the settings say.
    """
    registries = RegistryPool(settings.registry, Keys(settings.signing_key, settings.trusted_keys))
    http_metrics = HttpMetrics()
    http_metrics.add(ReferenceCollector(registries, settings.drift_features))
    desk = QualityDesk(settings.prediction_log, settings.feedback_log)
    http_metrics.add(QualityCollector(desk, registries, _mature(settings)))
    app = FastAPI(
        title="Tidegate control plane",
        description=DESCRIPTION,
        version="1",
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        middleware=[Middleware(AccessLog, http_metrics), Middleware(BodyLimit, settings.max_body_bytes)],
    )
    app.state.registries = registries
    app.state.metrics = http_metrics
    app.state.alert_metrics = AlertMetrics(http_metrics.registry)
    app.state.daemons = _daemons(settings)
    app.state.quality = desk
    app.state.quality_mature = settings.quality_mature
    app.state.cards = CardRenderer()
    app.state.pages = console.Pages()
    http_errors.install(app)
    for router in (
        models.router,
        promotions.router,
        drift.router,
        quality.router,
        alerts.router,
        inference.router,
        metrics.router,
        console.router,
    ):
        app.include_router(router)
    app.add_api_route("/api/v1/health", _health, tags=["health"])
    return app


def _mature(settings: Settings) -> timedelta:
    try:
        return parse_age(settings.quality_mature)
    except ParameterError as error:
        raise SettingsError(f"--quality-mature: {error}") from error


def _daemons(settings: Settings) -> Daemons:
    certificate, key = settings.daemon_tls_cert, settings.daemon_tls_key
    if settings.daemon_tls_ca is None and (certificate or key):
        raise SettingsError("--daemon-tls-cert and --daemon-tls-key need --daemon-tls-ca")
    try:
        credentials = tls_credentials(settings.daemon_tls_ca, certificate, key) if settings.daemon_tls_ca else None
        token = token_file(settings.daemon_token_file) if settings.daemon_token_file else None
        return Daemons(settings.daemon, settings.daemon_timeout, credentials, token)
    except InputError as error:
        raise SettingsError(f"--daemon: {error}") from error


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.daemons.close()


def _health() -> dict[str, bool]:
    """Whether this process answers; it says nothing of the registry or the daemon."""
    return {"live": True}
