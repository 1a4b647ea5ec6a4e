"""The wheel `tidegate-native` is of the same version as the daemon, made of exactly the crates named, and says its types truly."""

import ast
import inspect
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from server.transports import native_is_installed

ROOT = Path(__file__).parents[3]
CRATE = ROOT / "server" / "native"
STUB = CRATE / "tidegate_native.pyi"

installed = pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def described(name: str) -> dict[str, ast.FunctionDef]:
    """The methods and properties that the stub gives a class."""
    (found,) = (node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name)
    return {node.name: node for node in found.body if isinstance(node, ast.FunctionDef)}


def test_crate_has_the_version_of_the_project() -> None:
    assert toml(CRATE / "Cargo.toml")["package"]["version"] == toml(ROOT / "pyproject.toml")["project"]["version"]


def test_every_crate_it_is_made_of_is_pinned_exactly() -> None:
    manifest = toml(CRATE / "Cargo.toml")
    for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
        for name, wanted in manifest.get(kind, {}).items():
            version = wanted if isinstance(wanted, str) else wanted["version"]
            assert re.fullmatch(r"=\d+\.\d+\.\d+", version), f"{name} {version}"


def test_what_builds_it_is_the_maturin_of_the_lock() -> None:
    (wanted,) = toml(CRATE / "pyproject.toml")["build-system"]["requires"]
    assert f"{wanted} " in (ROOT / "requirements" / "native.txt").read_text()


@installed
def test_wheel_holds_one_module_for_every_python_from_3_11_on_and_its_types() -> None:
    wheel = distribution("tidegate-native")
    held = {str(path) for path in wheel.files or () if path.parent.name == "tidegate_native"}
    assert {f"tidegate_native/{name}" for name in ("__init__.py", "__init__.pyi", "py.typed", "tidegate_native.abi3.so")} == held
    assert "Tag: cp311-abi3-" in (wheel.read_text("WHEEL") or "")
    assert wheel.version == toml(CRATE / "Cargo.toml")["package"]["version"]
    assert wheel.locate_file("tidegate_native/__init__.pyi").read_text() == STUB.read_text()


@installed
@pytest.mark.parametrize("name", ["Server", "DriftCounting"])
def test_stub_names_what_the_module_has(name: str) -> None:
    import tidegate_native  # noqa: PLC0415 -- it need not be installed

    made = getattr(tidegate_native, name)
    methods = described(name)
    assert {method for method in methods if method != "__new__"} == {method for method in vars(made) if not method.startswith("_")}
    arguments = methods["__new__"].args
    names = [argument.arg for argument in (*arguments.args[1:], *arguments.kwonlyargs)]
    assert list(inspect.signature(made).parameters) == names
