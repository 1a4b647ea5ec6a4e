"""The daemon's settings: flags above `TIDEGATE_` environment variables above a TOML file above defaults. They are only read here."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from registry.drift_limits import SHOWN
from server.errors import SettingsError
from server.unix_sockets import path_of

DAY_SECONDS = 86_400.0
HIGHEST_PORT = 65_535


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", extra="ignore", toml_file="tidegate.toml")

    registry: str = ".tidegate/registry"
    """Registry to follow: file:///path, a path, s3://, gs:// or az://"""
    trusted_keys: Path | None = None
    """Public key, or a folder of *.pub: a version that none of them signed is not served"""
    model_dir: Path | None = None
    """Serve the model.onnx, or only *.onnx, of this folder as version 1, without a registry"""
    model_name: str | None = None
    """What the model of --model-dir is called; the folder's name if not given"""
    memory_budget: ByteSize = Field(default=ByteSize(0), ge=0)
    """Bytes that loaded versions may take together, e.g. 512MiB; 0: no bound"""
    transport: Literal["auto", "grpcio", "native"] = "auto"
    """What carries calls; auto: native where it is installed, else grpcio"""
    grpc_address: str = "127.0.0.1:8001"
    """Where gRPC listens, HOST:PORT or unix:PATH; port 0 takes a free one"""
    metrics_address: str = "127.0.0.1:8002"
    """Where Prometheus scrapes; port 0 takes a free one"""
    insecure: bool = False
    """Allow an address that is not loopback without TLS and authentication"""
    max_batch_rows: int = Field(default=1024, ge=1)
    """Most rows of a batch that gathers several requests"""
    max_queue_delay: float = Field(default=0.0, ge=0, le=10)
    """Seconds that an idle engine waits for a batch to fill"""
    max_queue_rows: int = Field(default=65_536, ge=1)
    """Most rows that may be unanswered before requests are refused"""
    max_queue_bytes: int = Field(default=256 << 20, ge=1)
    """Most bytes of requests that may be unanswered before requests are refused"""
    rate_limit: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Rows a second that one principal may ask for; 0 for any number"""
    rate_burst: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Rows that one principal may ask for at once; 0 for those of one second"""
    max_message_bytes: int = Field(default=64 << 20, ge=1024, lt=1 << 31)
    """Largest message taken or sent"""
    engine_threads: int = Field(default=1, ge=1)
    """Threads of one run in ONNX Runtime"""
    replicas: int = Field(default=1, ge=1, le=64)
    """Processes that share the gRPC port"""
    drain_delay: float = Field(default=0.0, ge=0, le=DAY_SECONDS)
    """Seconds to go on serving after SIGTERM, while load balancers notice"""
    prediction_log: Path | None = None
    """Folder of the prediction log; without one nothing is logged"""
    prediction_log_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that are logged, chosen by their prediction ids"""
    prediction_log_seconds: float = Field(default=10.0, gt=0, le=DAY_SECONDS)
    """Most seconds until what was logged stands in a file"""
    prediction_log_keep_days: int | None = Field(default=None, ge=1)
    """Days after which files of the prediction log are removed; without it they stay"""
    prediction_log_max_bytes: int | None = Field(default=None, ge=1 << 20)
    """Bytes the folder may hold: the oldest files are removed first"""
    prediction_log_drop: Annotated[tuple[str, ...], NoDecode] = ()
    """Columns that are not logged"""
    prediction_log_hash: Annotated[tuple[str, ...], NoDecode] = ()
    """Columns of which only a keyed hash is logged"""
    prediction_log_hash_key: Path | None = None
    """File with the key of those hashes, at least 16 bytes"""
    drift_features: int = Field(default=SHOWN, ge=0)
    """Inputs of a version whose drift is among the metrics, the most important ones; all are counted and judged"""
    feedback_log: Path | None = None
    """Folder of the feedback log; without one labels are refused"""
    tracing: str | None = None
    """Where spans are sent by OTLP over gRPC, e.g. http://127.0.0.1:4317; without it there are none"""
    tracing_share: float = Field(default=0.01, ge=0, le=1)
    """Share of the requests that are traced where the caller has not decided"""

    tokens: Path | None = None
    """Token file: who may call, with which token or client certificate, and what that allows"""
    jwt_keys: Path | None = None
    """Public keys of JSON Web Tokens: a PEM file, a folder of *.pem, or a JWKS file"""
    jwt_issuer: str | None = Field(default=None, min_length=1)
    """The `iss` of the tokens taken"""
    jwt_audience: str | None = Field(default=None, min_length=1)
    """The `aud` of the tokens taken"""
    tls_cert: Path | None = None
    """Certificate chain in PEM: gRPC speaks TLS"""
    tls_key: Path | None = None
    """Private key of the certificate, PEM without a password"""
    tls_client_ca: Path | None = None
    """Authorities in PEM: clients must show a certificate of one of them"""
    metrics_open: bool = False
    """Allow metrics on an address that is not loopback: they have no TLS and no authentication"""
    max_metadata_bytes: int = Field(default=16 << 10, ge=1024, le=1 << 20)
    """Largest metadata of one call"""
    max_streams: int = Field(default=256, ge=1, le=1 << 20)
    """Most calls at once on one connection; a client keeps further ones until others have ended, so that overload waits where it is made"""
    max_connection_age: float | None = Field(default=None, ge=0, le=DAY_SECONDS)
    """Seconds, give or take a tenth, after which a client is asked to connect anew; 0: never; 60 among replicas, else 3600, if not given"""
    max_connection_age_grace: float = Field(default=60.0, gt=0, le=1e6)
    """Seconds that calls under way have to finish on a connection that is too old"""
    max_connection_idle: float = Field(default=900.0, ge=0, le=1e6)
    """Seconds after which a connection without calls is closed; 0: never"""
    keepalive_time: float = Field(default=60.0, ge=1, le=1e6)
    """Seconds without a sign of a client after which it is asked for one"""
    keepalive_timeout: float = Field(default=20.0, ge=1, le=1e6)
    """Seconds it has to give one before its connection is closed"""
    min_ping_interval: float = Field(default=10.0, ge=0, le=1e6)
    """Seconds that a client has to leave between its own pings; one that does not is sent away"""

    @property
    def connection_age(self) -> float:
        """`max_connection_age`, or what it is where nobody says: replicas are left, and evened out, by connections that come to an age."""
        if self.max_connection_age is not None:
            return self.max_connection_age
        return 60.0 if self.replicas > 1 else 3600.0

    @field_validator("prediction_log_drop", "prediction_log_hash", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # Commas part the names in an environment variable alone: a flag is given once a name, and TOML has lists.
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("grpc_address")
    @classmethod
    def _check_grpc_address(cls, address: str) -> str:
        return address if path_of(address) else cls._check_address(address)

    @field_validator("metrics_address")
    @classmethod
    def _check_address(cls, address: str) -> str:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > HIGHEST_PORT:
            raise ValueError(f"{address!r} is not HOST:PORT")
        return address

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings of this process; `config` replaces `tidegate.toml` and must exist.

    Raises:
        SettingsError: naming the first setting that is wrong, or an address open to others without protection.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"--config {config}: no such file")
    try:
        settings = _class_reading(config)(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"--{name.replace('_', '-')} (TIDEGATE_{name.upper()}): {message}") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"{config or 'tidegate.toml'} cannot be read: {error}") from error
    if settings.replicas > 1 and path_of(settings.grpc_address):
        raise SettingsError("--replicas share a port, and cannot share a Unix socket: give --grpc-address HOST:PORT, or start one daemon")
    _check_credentials(settings)
    _check_open_addresses(settings)
    return settings


def _check_credentials(settings: Settings) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SettingsError("--tls-cert and --tls-key go together")
    if settings.tls_client_ca and not settings.tls_cert:
        raise SettingsError("--tls-client-ca needs --tls-cert and --tls-key")
    if settings.tls_client_ca and not (settings.tokens or settings.jwt_keys):
        raise SettingsError(
            "--tls-client-ca needs --tokens, which says what each client certificate allows, or --jwt-keys: else nobody may call"
        )
    jwt = (settings.jwt_keys, settings.jwt_issuer, settings.jwt_audience)
    if any(jwt) and not all(jwt):
        raise SettingsError("--jwt-keys, --jwt-issuer and --jwt-audience go together")


def _check_open_addresses(settings: Settings) -> None:
    if settings.insecure:
        return
    protected = settings.tls_cert and (settings.tokens or settings.jwt_keys)
    if not protected and not path_of(settings.grpc_address) and not _is_loopback(settings.grpc_address):
        raise SettingsError(
            f"{settings.grpc_address} is open to other machines without TLS and authentication: "
            "bind to 127.0.0.1, give --tls-cert, --tls-key and --tokens or --jwt-keys, or say --insecure"
        )
    if not settings.metrics_open and not _is_loopback(settings.metrics_address):
        raise SettingsError(
            f"{settings.metrics_address} is open to other machines, and metrics have no TLS and no authentication: "
            "bind to 127.0.0.1, or say --metrics-open"
        )


def _class_reading(config: Path | None) -> type[Settings]:
    if config is None:
        return Settings

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    return Configured


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
