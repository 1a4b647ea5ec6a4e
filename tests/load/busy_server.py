"""A daemon with a thread of Python that never waits, to see what the engine still gets of the interpreter."""

import sys
import threading

from server.__main__ import main


def _never_wait() -> None:
    number = 0
    while True:
        number += 1


if __name__ == "__main__":
    threading.Thread(target=_never_wait, daemon=True).start()
    sys.exit(main())
