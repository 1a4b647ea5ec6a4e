"""The sockets taken before anything heavy is imported: the one of /metrics, and the hold on a gRPC port that several processes will share.

Nothing here accepts a connection.
"""

import contextlib
import socket

from server.errors import SettingsError


def listen(address: str, flag: str) -> socket.socket:
    """A socket that listens on HOST:PORT.

    Raises:
        SettingsError: if the address is taken or is none of this machine; `flag` is named as what chooses another.
    """
    listener = _bound(address, flag)
    listener.listen(128)
    return listener


def reserve(address: str) -> tuple[contextlib.ExitStack, str]:
    """Hold a gRPC port without listening on it, so that it stays with the processes that share it; returns the hold and the address.

    Raises:
        SettingsError: if somebody else has it, even if it is willing to share: requests would go to both.
    """
    with contextlib.ExitStack() as stack:
        hold = stack.enter_context(_bound(address, "--grpc-address"))
        hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # set only now: binding was exclusive
        _claim(stack.enter_context(socket.socket(socket.AF_UNIX)), hold, address)
        return stack.pop_all(), address_of(hold, address)


def _claim(claim: socket.socket, hold: socket.socket, address: str) -> None:
    """Refuse a port that another parent holds: while none of its replicas listens, Linux lets both bind it."""
    host, port = hold.getsockname()[:2]
    try:
        claim.bind(f"\0tidegate-grpc-{host}-{port}")  # a name without a file, of the same network namespace, gone with the process
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror}; choose another with --grpc-address HOST:PORT") from error


def address_of(listener: socket.socket, address: str) -> str:
    """`address` with the port that was really bound."""
    return with_port(address, listener.getsockname()[1])


def with_port(address: str, port: int) -> str:
    """`address` with another port."""
    return f"{address.rpartition(':')[0]}:{port}"


def _bound(address: str, flag: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        with contextlib.ExitStack() as stack:
            family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            bound = stack.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            stack.pop_all()  # it stays open
    except OSError as error:
        raise SettingsError(f"cannot listen on {address}: {error.strerror}; choose another with {flag} HOST:PORT") from error
    return bound
