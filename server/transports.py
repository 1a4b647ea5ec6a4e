"""The transports there are, by the value of the setting `transport`. Each is imported when it is chosen; how they work is theirs."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import TypeAlias

from server.errors import SettingsError
from server.observed import Observers
from server.security import Security
from server.service import Call
from server.settings import Settings
from server.transport import Transport

MakeTransport: TypeAlias = Callable[[Settings, Mapping[str, Call], Security, Observers], Transport]

WHEEL = "tidegate_native"
"""The module of the wheel `tidegate-native`, which need not be installed"""


def _grpcio() -> MakeTransport:
    from server.grpcio_transport.transport import GrpcioTransport  # noqa: PLC0415 -- see above

    return GrpcioTransport


def _native() -> MakeTransport:
    if not native_is_installed():
        raise SettingsError(
            "--transport native needs the wheel tidegate-native, which is not installed here: `make native` builds and installs it"
        )
    from server.native.transport import NativeTransport  # noqa: PLC0415 -- see above

    return NativeTransport


TRANSPORTS: Mapping[str, Callable[[], MakeTransport]] = {"grpcio": _grpcio, "native": _native}


def chosen(name: str) -> MakeTransport:
    """What makes the transport of this name; `auto` is the native one where it is installed.

    Raises:
        SettingsError: if it is the native one, and its wheel is not installed.
    """
    if name == "auto":
        name = "native" if native_is_installed() else "grpcio"
    return TRANSPORTS[name]()


def native_is_installed() -> bool:
    """Whether the wheel is there."""
    return importlib.util.find_spec(WHEEL) is not None
