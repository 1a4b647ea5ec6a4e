"""A version travels as one file: byte for byte, checked before anything is written, and nothing in the file can escape or lie."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import archive, canonical, manifest
from registry.errors import CorruptError, FormatError, RegistryError, SignatureError, StoreError, VersionUnknownError
from registry.location import Keys, create_registry, open_registry
from registry.registry import Registry
from registry.signing import generate
from registry.verify import verify
from tests.registry.helpers import ACTOR, MODEL, Clock, bundle, files, new_registry, register

Members = dict[str, bytes]


@pytest.fixture
def source(root: Path) -> Registry:
    registry = new_registry(root)
    register(registry)
    registry.register(MODEL, {**bundle("two"), "notes.txt": b"n" * 2_500_000}, {"auc": 0.9}, actor=ACTOR, reason="two")
    return registry


@pytest.fixture
def exported(source: Registry, tmp_path: Path) -> Path:
    target = tmp_path / "two.tidegate"
    assert archive.export(source, MODEL, 2, target) == target.stat().st_size
    return target


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar.getmembers()}


def rewrite(path: Path, found: Members, change: Callable[[tarfile.TarInfo], None] = lambda _: None) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in found.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            tar.addfile(info, io.BytesIO(content))


def test_a_version_arrives_in_another_registry_as_it_was_and_says_where_it_came_from(
    source: Registry, exported: Path, tmp_path: Path
) -> None:
    target = new_registry(tmp_path / "elsewhere")
    found = archive.read(exported)
    assert archive.register(target, found, MODEL, actor="ben", reason="from the cluster") == 1
    assert archive.register(target, found, "other", actor="ben", reason="under another name") == 1
    for name in source.manifest(MODEL, 2).files:
        assert target.read(MODEL, 1, name) == source.read(MODEL, 2, name)
    facts = target.manifest(MODEL, 1).facts
    assert facts["auc"] == 0.9
    assert facts["imported_from"] == {"model": MODEL, "version": 2, "manifest": source.state(MODEL).version(2).manifest}
    assert verify(target.store) == ()


def test_the_same_version_gives_the_same_bytes(source: Registry, exported: Path, tmp_path: Path) -> None:
    archive.export(source, MODEL, 2, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == exported.read_bytes()
    assert list(members(exported)) == ["bundle.json", "manifest.json", "files/model.onnx", "files/notes.txt", "files/signature.json"]


def test_an_export_overwrites_nothing_and_leaves_nothing_when_it_fails(
    source: Registry, exported: Path, root: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    with pytest.raises(StoreError, match="does not overwrite"):
        archive.export(source, MODEL, 1, exported)
    with pytest.raises(VersionUnknownError):
        archive.export(source, MODEL, 9, tmp_path / "nine")
    with pytest.raises(StoreError, match="cannot write"):
        archive.export(source, MODEL, 1, tmp_path / "no" / "folder")
    assert files(tmp_path) == before
    blob = root / "blobs" / "sha256"
    largest = max(blob.rglob("*"), key=lambda path: path.stat().st_size)
    for content in (b"n" * 2_500_000 + b"!", b"n" * 2_499_999 + b"!", b"n" * 10):
        largest.write_bytes(content)
        with pytest.raises(CorruptError, match="run verify"):
            archive.export(source, MODEL, 2, tmp_path / "broken")
        assert not (tmp_path / "broken").exists()


def without(name: str) -> Callable[[Members], Members]:
    return lambda found: {key: content for key, content in found.items() if key != name}


def having(**changed: bytes) -> Callable[[Members], Members]:
    return lambda found: {**found, **{key.replace("__", "/").replace("_dot_", "."): content for key, content in changed.items()}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("bundle.json"), r"has no bundle\.json"),
        (without("manifest.json"), r"has no manifest\.json"),
        (without("files/notes.txt"), "'files/notes.txt' is missing"),
        (lambda found: {**found, "files/../../escaped": b"x"}, "escaped' is missing, twice there, or does not belong"),
        (lambda found: {**found, "/etc/passwd": b"x"}, "does not belong"),
        (lambda found: {**found, "files/notes.txt": b"other"}, "notes.txt in the archive is not what its manifest says"),
        (lambda found: {**found, "bundle.json": b"{}"}, "has format None"),
        (lambda found: {**found, "bundle.json": found["bundle.json"].replace(b'"version":2', b'"version":3')}, "contradict each other"),
        (lambda found: {**found, "manifest.json": found["manifest.json"].replace(b"0.9", b"1.0")}, "contradict each other"),
        (lambda found: {**found, "manifest.json": b"{" * 100_000}, "not valid JSON"),
    ],
)
def test_an_archive_that_was_changed_is_refused_and_nothing_is_written(
    exported: Path, tmp_path: Path, change: Callable[[Members], Members], says: str
) -> None:
    rewrite(exported, change(members(exported)))
    before = files(tmp_path)
    with pytest.raises(RegistryError, match=says):
        archive.read(exported)
    assert files(tmp_path) == before


def test_a_manifest_that_names_a_path_is_refused(exported: Path) -> None:
    found = members(exported)
    raw = found["manifest.json"].replace(b'"notes.txt"', b'"../n.txt"')
    header = canonical.decode(found["bundle.json"], "it")
    rewrite(exported, {**found, "manifest.json": raw, "bundle.json": canonical.encode({**header, "manifest": canonical.digest(raw)})})
    with pytest.raises(FormatError, match=r"file name '\.\./n\.txt' is not allowed"):
        archive.read(exported)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_an_archive_are_refused(exported: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == "files/notes.txt":
            info.type, info.linkname = kind, "/etc/passwd"

    rewrite(exported, members(exported), change)
    with pytest.raises(RegistryError):
        archive.read(exported)


@pytest.mark.parametrize("size", [0, 100, 512, 5_000, 1_000_000])
def test_an_archive_that_was_cut_off_is_refused(exported: Path, size: int) -> None:
    exported.write_bytes(exported.read_bytes()[:size])
    with pytest.raises(RegistryError):
        archive.read(exported)


def test_a_file_exchanged_between_reading_and_registering_is_not_registered(exported: Path, tmp_path: Path) -> None:
    found = archive.read(exported)
    rewrite(exported, {**members(exported), "files/notes.txt": b"n" * 2_499_999 + b"!"})
    target = new_registry(tmp_path / "elsewhere")
    with pytest.raises(CorruptError, match=r"notes\.txt in the archive is not what its manifest says"):
        archive.register(target, found, MODEL, actor=ACTOR, reason="exchanged")
    assert target.models() == []


def test_what_is_no_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 1000)
    for name in ("text", "absent"):
        with pytest.raises(RegistryError) as refused:
            archive.read(tmp_path / name)
        assert "\n" not in str(refused.value)


def test_with_trusted_keys_only_an_archive_they_signed_is_read(tmp_path: Path) -> None:
    public = generate(tmp_path / "ana.key")
    signed = create_registry(str(tmp_path / "signed"), Clock(), Keys(tmp_path / "ana.key"))
    register(signed)
    plain = new_registry(tmp_path / "plain")
    register(plain)
    for name, registry in (("signed", signed), ("plain", plain)):
        archive.export(registry, MODEL, 1, tmp_path / f"{name}.tidegate")
    trust = open_registry(str(tmp_path / "signed"), keys=Keys(trusted_keys=public)).trust
    assert archive.read(tmp_path / "signed.tidegate", trust).manifest == manifest.parse(signed.raw_manifest(MODEL, 1))
    with pytest.raises(SignatureError, match="not signed"):
        archive.read(tmp_path / "plain.tidegate", trust)
