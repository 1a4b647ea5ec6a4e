"""A version is served only if its files are what was registered and fit each other."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from registry.profile import Feature, Profile, numeric_feature
from registry.registry import Registry
from server.errors import NotServableError
from server.loaded_version import load, load_folder, memory_bytes
from server.onnx_engine import OnnxEngine
from tests import models
from tests.graphs import APART, MIXING

ENGINE = partial(OnnxEngine, threads=1)
SIGNATURE = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))
ROWS = np.ones((2, 3), np.float32)
GOOD = {
    bundle.MODEL: models.scaled(2.0),
    bundle.SIGNATURE: SIGNATURE.encode(),
    bundle.GOLDEN: models.golden({"input.numeric": ROWS, "output.scaled": ROWS * 2}),
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return create_registry(str(tmp_path / "registry"))


def test_bundle_that_fits_is_loaded(registry: Registry) -> None:
    registry.register("scaled", GOOD, {}, actor="test", reason="good")
    assert load(registry, "scaled", 1, ENGINE).signature == SIGNATURE


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (bundle.MODEL, models.scaled(2.0).replace(b"Mul", b"Mol"), "cannot load the model"),
        (bundle.MODEL, models.lookup(), "signature.json states"),
        (bundle.GOLDEN, b"", "golden.npz cannot be read"),
        (bundle.GOLDEN, b"PK\x03\x04 not a zip", "golden.npz cannot be read"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS}), "golden.npz cannot be read"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS, "output.scaled": ROWS * 3}), "come out differently in scaled"),
        (bundle.GOLDEN, models.golden({"input.numeric": ROWS[:, :2], "output.scaled": ROWS}), "golden rows fail"),
    ],
)
def test_bundle_that_contradicts_itself_is_not_servable(registry: Registry, name: str, content: bytes, says: str) -> None:
    registry.register("scaled", {**GOOD, name: content}, {}, actor="test", reason="bad")
    with pytest.raises(NotServableError, match=says):
        load(registry, "scaled", 1, ENGINE)


def profile_of(*inputs: Feature) -> bytes:
    return Profile(2, inputs, ()).encode()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((numeric_feature("a", [1.0, 2.0]), numeric_feature("gone", [1.0])), "its input 'gone' is not in signature.json"),
        ((numeric_feature("kind", [1.0]),), "its input 'kind' is numeric, that of the model is text"),
        ((numeric_feature("a", [1.0]), numeric_feature("a", [2.0])), "two features called 'a'"),
    ],
)
def test_profile_of_another_version_is_not_served(registry: Registry, inputs: tuple[Feature, ...], says: str) -> None:
    columns, texts = TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS), TensorSpec("categorical", "BYTES", (-1, 1), ("kind",))
    probabilities, echo = TensorSpec("probabilities", "FP32", (-1, 2)), TensorSpec("echo", "BYTES", (-1, 1))
    signature = Signature((columns, texts), (probabilities, echo))
    files = {bundle.MODEL: models.classifier(1.0), bundle.SIGNATURE: signature.encode(), bundle.PROFILE: profile_of(*inputs)}
    registry.register("classifier", files, {}, actor="test", reason="another profile")
    with pytest.raises(NotServableError, match=says):
        load(registry, "classifier", 1, ENGINE)


def test_profile_of_columns_that_the_signature_does_not_name_is_served_and_not_counted(registry: Registry) -> None:
    unnamed = Signature((TensorSpec("numeric", "FP32", (-1, 3)),), SIGNATURE.outputs)
    files = {**GOOD, bundle.SIGNATURE: unnamed.encode(), bundle.PROFILE: profile_of(numeric_feature("a", [1.0]))}
    registry.register("scaled", files, {}, actor="test", reason="columns without names")
    assert load(registry, "scaled", 1, ENGINE).profile is not None


def test_file_changed_after_registration_is_not_served(registry: Registry, tmp_path: Path) -> None:
    registry.register("scaled", GOOD, {}, actor="test", reason="good")
    digest = registry.manifest("scaled", 1).file(bundle.MODEL).sha256
    blob = tmp_path / "registry" / "blobs" / "sha256" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(models.scaled(9.0))
    with pytest.raises(NotServableError, match="corrupt"):
        load(registry, "scaled", 1, ENGINE)


FREE = TensorSpec("numeric", "FP32", (-1, -1))
OUT = TensorSpec("scaled", "FP32", (-1, -1))


@pytest.mark.parametrize(
    ("signature", "says"),
    [
        (
            Signature((TensorSpec("numeric", "FP32", (-1, 4)),), (OUT,)),
            "states input numeric as FP32 \\[-1, 4\\]; the model has FP32 \\[-1, 3\\]",
        ),
        (Signature((TensorSpec("numeric", "FP64", (-1, 3)),), (OUT,)), "states input numeric as FP64"),
        (Signature((TensorSpec("numeric", "FP32", (-1,)),), (OUT,)), "states input numeric"),
        (Signature((FREE,), (TensorSpec("scaled", "FP32", (-1, 2)),)), "states output scaled"),
        (Signature((FREE,), (TensorSpec("other", "FP32", (-1, 3)),)), "states the outputs other; the model has scaled"),
        (Signature((TensorSpec("numeric", "FP32", (-1, -1), ("a", "b")),), (OUT,)), "names 2 columns of input numeric"),
        (Signature((FREE,), (OUT,), ("no", "yes"), "yes"), "names 2 classes"),
    ],
)
def test_signature_that_the_model_contradicts_is_not_served(registry: Registry, signature: Signature, says: str) -> None:
    files = {bundle.MODEL: models.scaled(2.0), bundle.SIGNATURE: signature.encode()}
    registry.register("scaled", files, {}, actor="test", reason="bad")
    with pytest.raises(NotServableError, match=says):
        load(registry, "scaled", 1, ENGINE)


@pytest.mark.parametrize("signature", [SIGNATURE, Signature((FREE,), (OUT,)), Signature((FREE,), (OUT,), ("a", "b", "c"), "a")])
def test_sizes_that_one_side_leaves_free_fit(registry: Registry, signature: Signature) -> None:
    registry.register("scaled", {bundle.MODEL: models.scaled(2.0), bundle.SIGNATURE: signature.encode()}, {}, actor="test", reason="good")
    assert load(registry, "scaled", 1, ENGINE).batchable


def test_loaded_version_says_whether_rows_share_runs_and_what_memory_it_takes(registry: Registry) -> None:
    for name, model in (("apart", APART["softmax of each row"]), ("mixing", MIXING["softmax of columns"])):
        signature = ENGINE(model).signature
        registry.register(name, {bundle.MODEL: model, bundle.SIGNATURE: signature.encode()}, {}, actor="test", reason="rows")
        version = load(registry, name, 1, ENGINE)
        assert version.batchable == (name == "apart")
        assert version.memory_bytes == memory_bytes(len(model)) > len(model)


def test_retired_version_is_never_served(registry: Registry) -> None:
    registry.register("scaled", GOOD, {}, actor="test", reason="good")
    registry.retire("scaled", 1, actor="test", reason="too old")
    with pytest.raises(NotServableError, match="retired"):
        load(registry, "scaled", 1, ENGINE)


@pytest.mark.parametrize("file", ["model.onnx", "anything.onnx"])
def test_folder_with_one_model_is_served_whatever_the_file_is_called(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / file).write_bytes(models.scaled(2.0))
    (folder / "README.md").touch()
    assert (load_folder(folder, None, ENGINE).model, load_folder(folder, "churn", ENGINE).model) == ("models", "churn")


def test_folder_with_several_models_and_none_of_the_name_is_refused(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(models.scaled(2.0))
    with pytest.raises(NotServableError, match=r"holds 2 ONNX files: call the one to serve model\.onnx"):
        load_folder(tmp_path, None, ENGINE)
    (tmp_path / "model.onnx").write_bytes(models.scaled(3.0))
    assert load_folder(tmp_path, None, ENGINE).number == 1


def test_folder_that_is_a_link_is_called_as_the_link(tmp_path: Path) -> None:
    (tmp_path / "churn-of-november").mkdir()
    (tmp_path / "churn-of-november" / bundle.MODEL).write_bytes(models.scaled(2.0))
    (tmp_path / "churn").symlink_to("churn-of-november")
    assert load_folder(tmp_path / "churn", None, ENGINE).model == "churn"
    assert load_folder(tmp_path / "churn" / ".." / "churn", None, ENGINE).model == "churn"


def test_folder_whose_name_is_no_text_needs_another(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xff")
    folder.mkdir()
    (folder / bundle.MODEL).write_bytes(models.scaled(2.0))
    with pytest.raises(NotServableError, match="--model-name"):
        load_folder(folder, None, ENGINE)
    assert load_folder(folder, "m", ENGINE).model == "m"


def test_hidden_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "churn.onnx").write_bytes(models.scaled(2.0))
    (tmp_path / "._churn.onnx").write_bytes(b"what an archiver of another system leaves")
    assert load_folder(tmp_path, "churn", ENGINE).signature.inputs[0].name == "numeric"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/nowhere")])
def test_what_is_no_file_is_refused_in_one_line(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / bundle.MODEL)
    with pytest.raises(NotServableError, match=r"model\.onnx.*--model-dir"):
        load_folder(tmp_path, None, ENGINE)


def test_folder_that_is_a_loop_of_links_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotServableError, match="symbolic links"):
        load_folder(tmp_path / "loop", None, ENGINE)
