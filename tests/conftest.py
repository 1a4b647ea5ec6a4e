"""The same for every test: Hypothesis repeats itself, and no setting of whoever runs the tests reaches the programs under test."""

import os

from hypothesis import settings

from server.transports import native_is_installed

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

for name in [name for name in os.environ if name.startswith(("TIDEGATE_", "COMET_"))]:
    del os.environ[name]


def pytest_report_header() -> str:
    """Whether the contract suite holds the native transport to its promises too."""
    return "native transport: " + ("installed" if native_is_installed() else "not installed, so not tested; `make native` does that")
