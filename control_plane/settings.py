"""The control plane's settings: flags above `TIDEGATE_` environment variables above a TOML file above defaults. They are only read here."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from control_plane.errors import SettingsError
from registry.drift_limits import SHOWN

_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT = 65_535
_UNIX = re.compile(r"unix:(?://(?=/))?(?!//)[^\s?#]+")
"""A Unix socket, as gRPC writes it"""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", extra="ignore", toml_file="tidegate.toml")

    registry: str = ".tidegate/registry"
    """Registry to read and write: file:///path, a path, s3://, gs:// or az://"""
    signing_key: Path | None = None
    """Private key that signs what is committed: a file of `tidegate registry keygen`"""
    trusted_keys: Path | None = None
    """Public key, or a folder of *.pub: what none of them signed is refused"""
    http_address: str = "127.0.0.1:8000"
    """Where HTTP listens; port 0 takes a free one"""
    daemon: Annotated[tuple[str, ...], NoDecode] = Field(default=("127.0.0.1:8001",), min_length=1)
    """Daemons that answer inference, each HOST:PORT or unix:PATH; several are separated by commas"""
    daemon_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds a daemon has for one answer"""
    daemon_token_file: Path | None = None
    """File with the token that the daemons are shown; read at every call"""
    daemon_tls_ca: Path | None = None
    """Authorities in PEM that the daemons' certificates come from: TLS is spoken with them"""
    daemon_tls_cert: Path | None = None
    """Certificate that the daemons are shown"""
    daemon_tls_key: Path | None = None
    """Private key of that certificate"""
    prediction_log: Path | None = None
    """Folder of the daemons' prediction log, from which quality is read"""
    feedback_log: Path | None = None
    """Folder of their feedback log; without it quality is only estimated"""
    quality_mature: str = "1d"
    """Age from which rows are judged in the metrics"""
    max_body_bytes: int = Field(default=64 << 20, ge=1024, lt=1 << 31)
    """Largest request body taken"""
    drift_features: int = Field(default=SHOWN, ge=0)
    """Inputs of a version whose drift reference is among the metrics, the most important ones; give the daemons the same"""
    insecure: bool = False
    """Allow an address that is not loopback without TLS and authentication"""

    @field_validator("daemon", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            return value
        return tuple(part.strip() for text in texts for part in str(text).split(","))

    @field_validator("http_address")
    @classmethod
    def _check_address(cls, address: str) -> str:
        return _host_and_port(address)

    @field_validator("daemon")
    @classmethod
    def _check_daemons(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(addresses)) != len(addresses):
            raise ValueError("a daemon is named twice: what it counted would be added up twice")
        return tuple(map(_daemon, addresses))

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
        raise SettingsError(
            f"--{name.replace('_', '-')} (TIDEGATE_{name.upper()}): {first['msg'].removeprefix('Value error, ')}"
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"{config or 'tidegate.toml'} cannot be read: {error}") from error
    if not settings.insecure and not _is_loopback(settings.http_address):
        raise SettingsError(
            f"{settings.http_address} is open to other machines without TLS and authentication: bind to 127.0.0.1, or say --insecure"
        )
    return settings


def _class_reading(config: Path | None) -> type[Settings]:
    if config is None:
        return Settings

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    return Configured


def _host_and_port(address: str) -> str:
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > _HIGHEST_PORT:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return address


def _daemon(address: str) -> str:
    if _UNIX.fullmatch(address):
        return address
    try:
        return _host_and_port(address)
    except ValueError as error:
        raise ValueError(f"{error} or unix:PATH") from error


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
