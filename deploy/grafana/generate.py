"""Write dashboards/*.json, or check that they are what the modules beside say.

python -m deploy.grafana.generate           write
python -m deploy.grafana.generate --check   write nothing; exit 1 naming the files that differ
"""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.drift import drift
from deploy.grafana.fleet import fleet
from deploy.grafana.quality import quality
from deploy.grafana.serving import serving

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {"serving": serving, "drift": drift, "fleet": fleet, "quality": quality}


def generated() -> dict[str, str]:
    """File name -> content of every dashboard."""
    return {f"{name}.json": _text(made()) for name, made in DASHBOARDS.items()}


def stale(files: dict[str, str], folder: Path) -> list[str]:
    """Names of the files in `folder` that differ from `files`, are missing from it, or no longer belong there."""
    present = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in present | files if present.get(name) != files.get(name))


def main(argv: list[str]) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.generate", description="Write the Grafana dashboards.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check: bool = parser.parse_args(argv).check
    files = generated()
    differing = stale(files, FOLDER)
    if check and differing:
        print(f"not what deploy/grafana says: {', '.join(differing)}; run `make generate`", file=sys.stderr)
        return 1
    for name in differing:
        if name in files:
            (FOLDER / name).write_text(files[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


def _text(dashboard: Dashboard) -> str:
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(dashboard) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
