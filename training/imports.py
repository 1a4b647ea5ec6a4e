"""Importing third parties that talk while they are imported, or leave files behind: nothing reaches the terminal or the user's home."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Silence logging and warnings, and keep matplotlib's font cache out of the user's home, for the imports in this block.

    aif360 logs by the root logger at import, which would install a handler for the whole program; comet_ml and aif360 import matplotlib.
    """
    silent, level = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(silent)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _matplotlib_elsewhere():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        logging.root.removeHandler(silent)


@contextmanager
def _matplotlib_elsewhere() -> Iterator[None]:
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
