"""The error tree of the command, and the exit code of every error it can meet.

CliError
├── RefusedError     exit 1: a rule or a check said no
└── InputError       exit 2: a wrong argument, file or address

Errors of the registry are shown as they are; a command that calls another program's code turns its errors into these two.
"""

from registry.errors import InvalidNameError, KeyFileError, NotARegistryError, NotFoundError, RegistryError

DONE = 0
REFUSED = 1
BAD_INPUT = 2
INTERNAL = 70
"""A defect of ours, as sysexits.h numbers it: neither refused nor the caller's fault."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports of a program ended by SIGINT, and by SIGPIPE."""


class CliError(Exception):
    """What the command says in one line on stderr."""


class RefusedError(CliError):
    """A rule or a check said no; nothing was changed."""


class InputError(CliError):
    """A wrong argument, file or address; nothing was changed."""


_BAD_INPUT = (InputError, InvalidNameError, KeyFileError, NotARegistryError, NotFoundError)


def exit_code(error: CliError | RegistryError) -> int:
    """1 if a rule or a check said no, 2 if what was asked for is wrong."""
    return BAD_INPUT if isinstance(error, _BAD_INPUT) else REFUSED
