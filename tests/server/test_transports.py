"""`--transport` chooses what is installed, says what is not, and imports nothing else."""

import subprocess
import sys

import pytest

from server import transports
from server.errors import SettingsError
from server.grpcio_transport.transport import GrpcioTransport
from server.settings import read_settings
from server.transports import chosen, native_is_installed


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the native transport was not built."""
    monkeypatch.setattr(transports, "WHEEL", "tidegate_native_that_nobody_built")


@pytest.mark.usefixtures("no_wheel")
def test_native_transport_that_is_not_installed_is_refused_with_what_installs_it() -> None:
    with pytest.raises(SettingsError, match="`make native`"):
        chosen("native")


@pytest.mark.usefixtures("no_wheel")
def test_auto_is_grpcio_where_the_native_one_is_not_installed() -> None:
    assert chosen("auto") is GrpcioTransport


@pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")
def test_auto_is_the_native_one_where_it_is_installed() -> None:
    assert chosen("auto") is chosen("native")
    assert chosen("auto") is not GrpcioTransport


def test_nobody_gets_the_native_one_unasked() -> None:
    assert read_settings({}).transport == "grpcio"


def test_an_unknown_transport_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="--transport"):
        read_settings({"transport": "carrier-pigeon"})


def test_a_transport_is_imported_when_it_is_chosen() -> None:
    program = "import sys, server.app; print([name for name in sys.modules if name.startswith(('server.native', 'tidegate_native'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
