"""`tidegate profile` makes the profile of a model that is there, and says in one line why it cannot."""

import json
from pathlib import Path

import pandas as pd
import pytest

from registry import profile
from registry.location import open_registry
from tests.clients.cli.conftest import Command
from tests.clients.cli.test_train import EXAMPLE, MODEL, small_spec


@pytest.fixture
def export(tidegate: Command, root: Path, tmp_path: Path) -> Path:
    """A folder with the model and the signature of a trained version."""
    done = tidegate("train", small_spec(tmp_path), "--trials", 1, "--experiments", tmp_path / "experiments", lines=None)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("model.onnx", "signature.json"):
        (folder / name).write_bytes(open_registry(str(root)).read(MODEL, 1, name))
    return folder


def test_the_profile_of_any_data_is_written_beside_the_model_and_the_folder_can_be_registered(
    tidegate: Command, root: Path, tmp_path: Path, export: Path
) -> None:
    data = tmp_path / "all.parquet"
    pd.concat([pd.read_csv(EXAMPLE / "hmda.csv")] * 3).to_parquet(data)
    done = tidegate("profile", export, "--spec", tmp_path / "spec.toml", "--data", data, "--json", lines=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": str(export / "profile.json"), "rows": 7140, "features": 14}
    assert done.stderr.splitlines() == ["profile: started", "profile: done"]
    assert tidegate("registry", "register", MODEL, export, "--reason", "a wider reference").returncode == 0
    found = profile.parse(open_registry(str(root)).read(MODEL, 2, "profile.json"))
    assert {sum(feature.reference) for feature in found.features} == {found.rows} == {7140}

    for arguments, words in [
        (["profile", tmp_path, "--spec", tmp_path / "spec.toml"], "name the folder that model.onnx is in"),
        (["profile", export, "--spec", tmp_path / "none.toml"], "cannot read the spec file"),
        (["profile", export, "--spec", tmp_path / "spec.toml", "--data", tmp_path / "none.parquet"], "no data file"),
        (["profile", export, "--spec", tmp_path / "spec.toml", "--out", tmp_path / "no" / "profile.json"], "cannot write"),
        (["profile", export], "--spec"),
    ]:
        refused = tidegate(*arguments, lines=None)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr.splitlines()[-1]
