"""The same for every test: Hypothesis repeats itself, and no setting of whoever runs the tests reaches the programs under test."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

for name in [name for name in os.environ if name.startswith(("TIDEGATE_", "COMET_"))]:
    del os.environ[name]
