"""Where the demo's programs listen and where its files go; the same environment variables as the programs have."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class PortTakenError(Exception):
    """An address the demo needs is in use; the text says which and how to choose another."""


@dataclass(frozen=True)
class Places:
    """Addresses as HOST:PORT, and the folder for registry, logs and experiment archives."""

    http: str
    grpc: str
    metrics: str
    folder: Path

    @property
    def registry(self) -> Path:
        """The demo's registry."""
        return self.folder / "registry"


def from_environment() -> Places:
    """The defaults, or what TIDEGATE_HTTP_ADDRESS, TIDEGATE_GRPC_ADDRESS and TIDEGATE_METRICS_ADDRESS say."""
    return Places(
        http=os.environ.get("TIDEGATE_HTTP_ADDRESS", "127.0.0.1:8000"),
        grpc=os.environ.get("TIDEGATE_GRPC_ADDRESS", "127.0.0.1:8001"),
        metrics=os.environ.get("TIDEGATE_METRICS_ADDRESS", "127.0.0.1:8002"),
        folder=Path(".tidegate/demo"),
    )


def check_free(addresses: Mapping[str, str]) -> None:
    """Find out before two minutes of training that one of `addresses`, by the name in its variable, is taken.

    Raises:
        PortTakenError: naming it and the variable that chooses another.
    """
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except (OSError, ValueError, OverflowError) as error:
                variable = f"TIDEGATE_{name}_ADDRESS"
                raise PortTakenError(f"cannot use {address} ({error}): choose another, e.g. {variable}=127.0.0.1:0") from error
