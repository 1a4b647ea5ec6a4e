"""`tidegate train` and `card` on the example's data: what is registered, what the card shows, and specs that are refused."""

import json
import re
from pathlib import Path

from registry.location import open_registry
from tests.clients.cli.conftest import Command

EXAMPLE = Path(__file__).parents[3] / "training" / "examples" / "mortgage"
MODEL = "mortgage-denial"


def small_spec(folder: Path) -> Path:
    """The example's spec with its first candidate alone, beside its data."""
    (folder / "hmda.csv").symlink_to(EXAMPLE / "hmda.csv")
    text = (EXAMPLE / "spec.toml").read_text()
    path = folder / "spec.toml"
    path.write_text("[[candidates]]".join(text.split("[[candidates]]")[:2]))
    return path


def test_a_spec_becomes_a_version_with_a_card(tidegate: Command, root: Path, tmp_path: Path) -> None:
    done = tidegate(
        "train", small_spec(tmp_path), "--trials", 1, "--seed", 3, "--experiments", tmp_path / "experiments", "--json", lines=None
    )
    assert done.returncode == 0, done.stderr
    (trained,) = json.loads(done.stdout)
    assert (trained["model"], trained["version"], trained["algorithm"]) == (MODEL, 1, "logistic-regression")
    assert 0.7 < trained["auc"] < 0.9
    *_, commit = open_registry(str(root)).log(MODEL)
    assert commit.change.actor == "ana"
    markdown, page = tidegate("card", MODEL, 1).stdout, tidegate("card", MODEL, 1, "--format", "html").stdout
    assert markdown.startswith("# ")
    assert "Disparate impact" in markdown
    assert not re.search(r"<script|https?://", page)
    assert json.loads(tidegate("card", MODEL, 1, "--format", "json").stdout)["model"] == MODEL
    assert tidegate("card", MODEL, 2).returncode == 2


def test_a_misspelt_key_is_exit_2_and_registers_nothing(tidegate: Command, root: Path, tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    spec.write_text(spec.read_text().replace("holdout", "houldout"))
    done = tidegate("train", spec)
    assert done.returncode == 2
    assert "houldout" in done.stderr
    assert not root.exists()
