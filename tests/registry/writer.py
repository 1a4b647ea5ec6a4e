"""A writer for the tests of races and crashes: registers and promotes without end, and prints what was acknowledged. No tests here.

Run as `python -m tests.registry.writer URL NAME SECONDS`; a line `<seq> <digest>` for each acknowledged promotion, `version <n>` for each
registration.
"""

import sys
import time

from registry.errors import RuleError
from registry.location import open_registry
from tests.registry.helpers import MODEL, bundle


def main(url: str, name: str, seconds: float) -> None:
    """Write until the time is over."""
    registry = open_registry(url)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        count += 1
        version = registry.register(MODEL, bundle(f"{name} {count}" * 1000), {}, actor=name, reason=f"{count}")
        print(f"version {version}", flush=True)  # noqa: T201
        try:
            entry = registry.promote(MODEL, version, to="production", actor=name, reason=f"{count}")
        except RuleError:
            continue
        print(f"{entry.seq} {entry.digest}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
