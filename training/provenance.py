"""Which code and which packages made a version. Asks git and the installed distributions; nothing else."""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path

PACKAGES = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "optuna", "aif360", "duckdb", "pandera", "pandas", "numpy", "tidegate")
"""The ones a card names: those that decide what a model answers and how it was judged."""


def code_commit() -> str | None:
    """The git commit this code is at, or None if it does not run from a git checkout."""
    git, folder = shutil.which("git"), Path(__file__).parent
    if git is None:
        return None
    answer = subprocess.run([git, "-C", str(folder), "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def packages() -> Mapping[str, str]:
    """The versions of the packages a card names."""
    return {name: version(name) for name in PACKAGES}


def dependency_digest() -> str:
    """The sha256 over all installed distributions, as sorted lines `name==version`."""
    lines = sorted({f"{found.name.lower()}=={found.version}" for found in distributions()})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
