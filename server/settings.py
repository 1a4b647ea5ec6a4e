"""The daemon's settings: flags above `TIDEGATE_` environment variables above tidegate.toml above defaults. They are only read here."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from server.errors import SettingsError


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
    drain_delay: float = Field(default=0.0, ge=0)
    """Seconds to go on serving after SIGTERM, while load balancers notice"""

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
        """Flags, then the environment, then tidegate.toml."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: naming the first setting that is wrong, or an address open to others without protection.
    """
    try:
        settings = Settings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"--{name.replace('_', '-')} (TIDEGATE_{name.upper()}): {message}") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"tidegate.toml cannot be read: {error}") from error
    for address in (settings.grpc_address, settings.metrics_address):
        if not settings.insecure and not _is_loopback(address):
            raise SettingsError(f"{address} is open to other machines without TLS and authentication: bind to 127.0.0.1, or say --insecure")
    return settings


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
