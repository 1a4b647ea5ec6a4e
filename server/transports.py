"""The transports there are, by the value of the setting `transport`. Each is imported when it is chosen; how they work is theirs."""

import importlib
import importlib.metadata
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
    """The one of the wheel.

    Raises:
        SettingsError: if the wheel is not installed, cannot be loaded, or is that of another release.
    """
    if not native_is_installed():
        raise SettingsError(
            "--transport native needs the wheel tidegate-native, which is not installed here: `make native` builds and installs it"
        )
    ours, its = importlib.metadata.version("tidegate"), importlib.metadata.version(WHEEL)
    if its != ours:
        raise SettingsError(f"the installed tidegate-native is {its}, this daemon {ours}: install its own, or serve by --transport grpcio")
    try:
        importlib.import_module(WHEEL)
    except ImportError as error:
        raise SettingsError(
            f"the installed tidegate-native cannot be loaded ({error}); serve by --transport grpcio, or build it here"
        ) from error
    from server.native.transport import NativeTransport  # noqa: PLC0415 -- see above

    return NativeTransport


TRANSPORTS: Mapping[str, Callable[[], MakeTransport]] = {"grpcio": _grpcio, "native": _native}


def chosen(setting: str) -> str:
    """The name of the transport that this setting asks for: `auto` takes the native one where it is installed."""
    if setting != "auto":
        return setting
    return "native" if native_is_installed() else "grpcio"


def native_is_installed() -> bool:
    """Whether the wheel is there."""
    return importlib.util.find_spec(WHEEL) is not None
