"""Fixtures of the registry's tests."""

from pathlib import Path

import pytest

from registry.registry import Registry
from tests.registry.helpers import new_registry


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path) -> Registry:
    return new_registry(root)
