"""Who acts: the user of the operating system, whose name every change in the registry records."""

import getpass

from clients.cli.errors import InputError


def user_name() -> str:
    """The name of the user.

    Raises:
        InputError: if there is none, as for a bare number in a container.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError) as error:
        raise InputError("your user has no name: set LOGNAME; it is recorded as the actor of the change") from error
