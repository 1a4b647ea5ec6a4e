"""The steps a local disk is asked for, one method each: what is written, what is made durable, what gets and loses a name.

`local_store` says in which order they are taken and why. A test records them here and replays every crash between them.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path


class Disk:
    """The file system of this machine. Every method raises OSError as the system does."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder if it is absent; its entry in the parent is not durable yet."""
        folder.mkdir(exist_ok=True)

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Make a file that must not exist, and make its content durable; its entry in the folder is not yet."""
        with path.open("xb", buffering=0) as file:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[file.write(left) :]
            os.fsync(file.fileno())

    def link(self, source: Path, target: Path) -> bool:
        """Give a file a second name; False if the name is taken."""
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        return True

    def remove(self, path: Path) -> None:
        """Take a name away, if it is there."""
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make the entries of a folder durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what a file system says that keeps folders durable by itself
                raise
        finally:
            os.close(descriptor)
