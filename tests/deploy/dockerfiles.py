"""Reading Dockerfiles and the Compose file as values. No test lives here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
NAMES = ("daemon", "control-plane", "training")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, continued lines joined."""

    word: str
    rest: str


def instructions(name: str) -> list[Instruction]:
    """The instructions of `deploy/docker/<name>.Dockerfile`, in order."""
    text = (ROOT / "deploy" / "docker" / f"{name}.Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def rest_of(name: str, word: str) -> list[str]:
    """What follows each `word` instruction."""
    return [instruction.rest for instruction in instructions(name) if instruction.word == word]


def services() -> dict[str, dict[str, Any]]:
    """The services of the Compose file."""
    return dict(load(ROOT / "deploy" / "compose" / "compose.yaml")["services"])


def load(path: Path) -> dict[str, Any]:
    """A YAML file that holds an object."""
    value = yaml.safe_load(path.read_text())
    assert isinstance(value, dict)
    return value
