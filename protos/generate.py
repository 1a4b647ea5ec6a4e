"""Generate `src/tidegate_protos` from the .proto files, or check that it is up to date. Nothing here runs at run time.

The output of protoc is changed in three ways: messages register in the private pool of `tidegate_protos.pool`, modules stand
flat in the package, and imports follow.

    python protos/generate.py           write
    python protos/generate.py --check   write nothing; exit 1 naming the files that differ
"""
# ruff: noqa: INP001 - a program, not a module of a package

import argparse
import re
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PACKAGE = "tidegate_protos"
PROTOS = ("inference.proto", "tidegate/v1/monitoring.proto")
ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")

_REWRITES = (
    (
        re.compile(r"^from google\.protobuf import descriptor_pool as _descriptor_pool$", re.MULTILINE),
        f"from {PACKAGE} import pool as _pool",
    ),
    (re.compile(r"\b_descriptor_pool\.Default\(\)"), "_pool.POOL"),
    (re.compile(r"^(?:from [\w.]+ )?import (\w+_pb2) as (\w+)$", re.MULTILINE), rf"from {PACKAGE} import \1 as \2"),
    (re.compile(r"(TopDescriptorsAndMessages\(DESCRIPTOR, ')(?:[\w.]+\.)?(\w+_pb2')"), rf"\1{PACKAGE}.\2"),
)


def generate(root: Path) -> dict[str, str]:
    """File name -> content of every generated module, from the .proto files under `root`."""
    with tempfile.TemporaryDirectory() as scratch:
        outs = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", f"--proto_path={root}", *outs, *(str(root / proto) for proto in PROTOS)]):
            raise SystemExit("protoc refused the .proto files: see its message above")
        return {file.name: _rewrite(file.read_text("utf-8")) for file in _outputs(Path(scratch))}


def stale(generated: dict[str, str], target: Path) -> list[str]:
    """Names of the files in `target` that differ from `generated`, are missing from it, or no longer belong there."""
    present = {path.name for ending in ENDINGS for path in target.glob(f"*{ending}")}
    return sorted(name for name in present | generated.keys() if generated.get(name) != _text(target / name))


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Generate the Python of the wire contract.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check: bool = parser.parse_args(argv).check
    root = Path(__file__).resolve().parent
    target = root / "src" / PACKAGE
    generated = generate(root)
    differing = stale(generated, target)
    if check and differing:
        print(f"not what the .proto files say: {', '.join(differing)}; run `make generate`", file=sys.stderr)
        return 1
    for name in differing:
        _write(target / name, generated.get(name))
    return 0


def _outputs(scratch: Path) -> list[Path]:
    return sorted(path for ending in ENDINGS for path in scratch.rglob(f"*{ending}"))


def _rewrite(text: str) -> str:
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    if "_descriptor_pool.Default" in text:
        raise SystemExit("protoc's output has a new shape: the private pool could not be put in; adapt protos/generate.py")
    return text


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def _write(path: Path, content: str | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
