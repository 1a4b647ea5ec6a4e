"""`python -m control_plane`: read the flags, take the port, serve until a signal."""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import structlog

from control_plane.errors import SettingsError
from control_plane.settings import Settings, read_settings
from registry.errors import RegistryError

_FLAGS = {
    "registry": "registry to read and write: file:///path, a path, s3://, gs:// or az://",
    "signing_key": "private key that signs what is committed: a file of tidegate registry keygen",
    "trusted_keys": "public key, or a folder of *.pub: what none of them signed is refused",
    "http_address": "where HTTP listens; port 0 takes a free one",
    "daemon_timeout": "seconds a daemon has for one answer",
    "daemon_token_file": "file with the token that the daemons are shown",
    "daemon_tls_ca": "authorities in PEM that the daemons' certificates come from: TLS is spoken with them",
    "daemon_tls_cert": "certificate that the daemons are shown",
    "daemon_tls_key": "private key of that certificate",
    "prediction_log": "folder of the daemons' prediction log, from which quality is read",
    "feedback_log": "folder of their feedback log; without it quality is only estimated",
    "quality_mature": "age from which rows are judged in the metrics: 90s, 30m, 12h or 7d",
    "max_body_bytes": "largest request body taken",
    "drift_features": "inputs of a version whose drift reference is among the metrics, most important first; as for the daemons",
}
_DRAIN_SECONDS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the control plane until SIGTERM or SIGINT; returns the exit code."""
    flags = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    _configure_log()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn has handlers of its own while it runs, and raises the signal again for these when it has ended in order.
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        settings = read_settings(flags, flags.pop("config", None))
        with _listen(settings.http_address) as listener:
            _serve(settings, listener)
    except (SettingsError, RegistryError) as error:
        print(f"tidegate control: {error}", file=sys.stderr)  # noqa: T201 -- one line for the person who typed it
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, without the usage that --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tidegate control",
        description="REST over a registry, and Open Inference Protocol v2 forwarded to the daemon. "
        "Every flag is also TIDEGATE_<NAME> and a key of tidegate.toml.",
        epilog="example: tidegate control --registry .tidegate/registry --http-address 127.0.0.1:8000 --daemon 127.0.0.1:8001",
    )
    for name, text in _FLAGS.items():
        default = Settings.model_fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", help=text if default is None else f"{text} (default {default})", metavar="VALUE")
    parser.add_argument(
        "--daemon", action="append", metavar="ADDRESS", help="HOST:PORT or unix:PATH of a daemon that answers inference; may be repeated"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="read this TOML file in place of tidegate.toml")
    parser.add_argument("--insecure", action="store_true", default=None, help="allow an address that is not loopback, unprotected")
    return parser


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio sets TCP_NODELAY only where it stands, and without that every small answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {address}: {error.strerror}; choose another with --http-address HOST:PORT") from error
    return listener


def _serve(settings: Settings, listener: socket.socket) -> None:
    # Imported when the settings are known to be good: a typing error is answered at once, not after grpc and fastapi have loaded.
    import uvicorn  # noqa: PLC0415

    from control_plane.app import create_app  # noqa: PLC0415

    app = create_app(settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_DRAIN_SECONDS)
    host, port = settings.http_address.rpartition(":")[0], listener.getsockname()[1]
    # The socket listens already: who connects from now on is answered as soon as the loop runs.
    print(f"control plane ready on http://{host}:{port}", flush=True)  # noqa: T201 -- one line for the person or program that started it
    uvicorn.Server(config).run(sockets=[listener])


def _configure_log() -> None:
    # A plain traceback: the fine one that is the default shows the values of variables, which are rows and tokens of callers.
    for_people = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = for_people if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
