"""The mortgage example: its files, a spec to spoil, and one real training run that many tests look at."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.location import open_registry
from registry.registry import Registry
from training.pipeline import TrainedVersion, train

EXAMPLE = Path(__file__).parents[2] / "training" / "examples" / "mortgage"
SEED = 20


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    versions: list[TrainedVersion]
    registry: Registry
    tracker_dir: Path
    progress: list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("trained")
    seen: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COMET_API_KEY", raising=False)
        versions = train(
            EXAMPLE / "spec.toml",
            str(root / "registry"),
            trials=2,
            actor="test",
            tracker_dir=root / "comet",
            progress=lambda *step: seen.append(step),
        )
    return Run(versions, open_registry(str(root / "registry")), root / "comet", seen)


@pytest.fixture
def spec_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the example's spec and data, spoiled by `changes` (old text -> new text in the spec) and `rows` (a change of the CSV text)."""

    def write(changes: dict[str, str] | None = None, rows: Callable[[str], str] = str) -> Path:
        text = (EXAMPLE / "spec.toml").read_text()
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "hmda.csv").write_text(rows((EXAMPLE / "hmda.csv").read_text()))
        path = tmp_path / "spec.toml"
        path.write_text(text)
        return path

    return write


def only_the_first_candidate(path: Path) -> Path:
    """Cut a spec file before its second candidate."""
    text = path.read_text()
    path.write_text(text[: text.index("[[candidates]]", text.index("[[candidates]]") + 1)])
    return path


def without_tables(path: Path, *tables: str) -> Path:
    """Cut whole tables, by their headers, out of a spec file."""
    text = path.read_text()
    for table in tables:
        text = re.sub(rf"^\[{re.escape(table)}\]\n(?:(?!\[).*\n)*", "", text, flags=re.MULTILINE)
    path.write_text(text)
    return path
