"""Fixtures of the registry's tests."""

from pathlib import Path

import pytest

from registry.registry import Registry
from tests.registry.helpers import new_registry
from tests.registry.object_storage import object_storage

__all__ = ["object_storage"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path) -> Registry:
    return new_registry(root)
