"""The daemon's settings: flags above `TIDEGATE_` environment variables above a TOML file above defaults. They are only read here."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from server.errors import SettingsError

DAY_SECONDS = 86_400.0


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", extra="ignore", toml_file="tidegate.toml")

    registry: str = ".tidegate/registry"
    """Registry to follow: file:///path, a path, s3://, gs:// or az://"""
    trusted_keys: Path | None = None
    """Public key, or a folder of *.pub: a version that none of them signed is not served"""
    model_dir: Path | None = None
    """Serve the model.onnx of this folder as version 1 of a model of its name, without a registry"""
    grpc_address: str = "127.0.0.1:8001"
    """Where gRPC listens; port 0 takes a free one"""
    metrics_address: str = "127.0.0.1:8002"
    """Where Prometheus scrapes; port 0 takes a free one"""
    insecure: bool = False
    """Allow an address that is not loopback without TLS and authentication"""
    max_batch_rows: int = Field(default=1024, ge=1)
    """Most rows of a batch that gathers several requests"""
    max_queue_delay: float = Field(default=0.0, ge=0, le=10)
    """Seconds that an idle engine waits for a batch to fill"""
    max_queue_rows: int = Field(default=65_536, ge=1)
    """Most rows that may wait before requests are refused"""
    max_in_flight: int = Field(default=256, ge=1, le=4096)
    """Most requests worked on at once; one thread each"""
    max_message_bytes: int = Field(default=64 << 20, ge=1024, lt=1 << 31)
    """Largest message taken or sent"""
    engine_threads: int = Field(default=1, ge=1)
    """Threads of one run in ONNX Runtime"""
    replicas: int = Field(default=1, ge=1, le=64)
    """Processes that share the gRPC port"""
    max_connection_age: float = Field(default=60.0, ge=0, le=DAY_SECONDS)
    """Seconds, give or take a tenth, after which a connection is asked to be made anew, which may bring it to another replica; 0: never"""
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
    tracing: str | None = None
    """Where spans are sent by OTLP over gRPC, e.g. http://127.0.0.1:4317; without it there are none"""
    tracing_share: float = Field(default=0.01, ge=0, le=1)
    """Share of the requests that are traced where the caller has not decided"""

    @field_validator("prediction_log_drop", "prediction_log_hash", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # Commas part the names in an environment variable alone: a flag is given once a name, and TOML has lists.
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("grpc_address", "metrics_address")
    @classmethod
    def _check_address(cls, address: str) -> str:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 -- the highest port
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
    for address in (settings.grpc_address, settings.metrics_address):
        if not settings.insecure and not _is_loopback(address):
            raise SettingsError(f"{address} is open to other machines without TLS and authentication: bind to 127.0.0.1, or say --insecure")
    return settings


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
