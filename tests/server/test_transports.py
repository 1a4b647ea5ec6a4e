"""`--transport` chooses what is installed, says what is not, and imports nothing else."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server import transports
from server.errors import SettingsError
from server.grpcio_transport.transport import GrpcioTransport
from server.settings import read_settings
from server.transports import TRANSPORTS, chosen, native_is_installed


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the native transport was not built."""
    monkeypatch.setattr(transports, "WHEEL", "tidegate_native_that_nobody_built")


@pytest.mark.usefixtures("no_wheel")
def test_native_transport_that_is_not_installed_is_refused_with_what_installs_it() -> None:
    with pytest.raises(SettingsError, match="`make native`"):
        TRANSPORTS[chosen("native")]()


@pytest.mark.usefixtures("no_wheel")
def test_auto_is_grpcio_where_the_native_one_is_not_installed() -> None:
    assert TRANSPORTS[chosen("auto")]() is GrpcioTransport


@pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")
def test_auto_is_the_native_one_where_it_is_installed() -> None:
    assert chosen("auto") == "native"
    assert chosen("grpcio") == "grpcio"


def test_the_fastest_there_is_serves_unasked() -> None:
    assert read_settings({}).transport == "auto"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a wheel of this version that cannot be loaded, as one that wants a later C library."""

    def install(version: str) -> None:
        (tmp_path / "tidegate_native_of_elsewhere.py").write_text('raise ImportError("GLIBC_2.99 not found")\n')
        about = tmp_path / f"tidegate_native_of_elsewhere-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tidegate-native-of-elsewhere\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(transports, "WHEEL", "tidegate_native_of_elsewhere")

    return install


def test_a_wheel_that_cannot_be_loaded_is_refused_with_the_way_out(wheel: Callable[[str], None]) -> None:
    wheel(importlib.metadata.version("tidegate"))
    with pytest.raises(SettingsError, match=r"GLIBC_2\.99 not found.*--transport grpcio"):
        TRANSPORTS[chosen("auto")]()


def test_a_wheel_of_another_release_is_refused_with_both(wheel: Callable[[str], None]) -> None:
    wheel("0.0.9")
    with pytest.raises(SettingsError, match=rf"is 0\.0\.9, this daemon {importlib.metadata.version('tidegate')}"):
        TRANSPORTS[chosen("auto")]()


def test_an_unknown_transport_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="--transport"):
        read_settings({"transport": "carrier-pigeon"})


def test_a_transport_is_imported_when_it_is_chosen() -> None:
    program = "import sys, server.app; print([name for name in sys.modules if name.startswith(('server.native', 'tidegate_native'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
