"""`python -m server`: read the flags, start the daemon, wait for a signal, drain."""

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import structlog

from server.errors import ServerError
from server.settings import Settings, read_settings

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FLAGS = {
    "registry": "registry to follow: file:///path, a path, s3://, gs:// or az://",
    "trusted_keys": "public key, or a folder of *.pub: a version that none of them signed is not served",
    "model_dir": "serve DIR/model.onnx, or the only *.onnx in DIR, as version 1, without a registry",
    "model_name": "what the model of --model-dir is called, if not as the folder",
    "memory_budget": "memory that loaded versions may take together, e.g. 512MiB; 0: no bound",
    "grpc_address": "where gRPC listens; port 0 takes a free one",
    "metrics_address": "where Prometheus scrapes /metrics; port 0 takes a free one",
    "max_batch_rows": "most rows of a batch that gathers several requests",
    "max_queue_delay": "seconds that an idle engine waits for a batch to fill",
    "max_queue_rows": "most rows that may be unanswered before requests are refused",
    "max_queue_bytes": "most bytes of requests that may be unanswered before requests are refused",
    "rate_limit": "rows a second that one principal may ask for; 0 for any number",
    "rate_burst": "rows that one principal may ask for at once; 0 for those of one second",
    "max_message_bytes": "largest message taken or sent",
    "engine_threads": "threads of one run in ONNX Runtime",
    "drain_delay": "seconds to go on serving after SIGTERM",
    "tokens": "token file: who may call, with which token or client certificate, and what that allows (made by tidegate token)",
    "jwt_keys": "public keys of JSON Web Tokens: a PEM file, a folder of *.pem, or a JWKS file",
    "jwt_issuer": "the iss of the JSON Web Tokens taken",
    "jwt_audience": "the aud of the JSON Web Tokens taken",
    "tls_cert": "certificate chain in PEM: gRPC speaks TLS; read again when it changes",
    "tls_key": "private key of the certificate, PEM without a password",
    "tls_client_ca": "authorities in PEM: clients must show a certificate of one of them",
    "max_metadata_bytes": "largest metadata of one call",
    "max_streams": "most calls at once on one connection",
    "max_connection_age": "seconds after which a client is asked to connect anew; 0: never",
    "max_connection_age_grace": "seconds that calls under way have to finish on a connection that is too old",
    "max_connection_idle": "seconds after which a connection without calls is closed; 0: never",
    "keepalive_time": "seconds without a sign of a client after which it is asked for one",
    "keepalive_timeout": "seconds it has to give one",
    "min_ping_interval": "seconds that a client has to leave between its own pings",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT; returns the exit code."""
    flags = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    _configure_log()
    # Blocked before any thread starts and then waited for: a handler could run while this thread holds the very lock it needs.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        settings = read_settings(flags)
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core would print a second line for what we say in one
        # Imported when the settings are known to be good: a typing error is answered at once, not after grpc and onnxruntime have loaded.
        from server import app  # noqa: PLC0415

        _spare_the_collector()
        daemon = app.start(settings)
    except ServerError as error:
        print(f"tidegate serve: {error}", file=sys.stderr)  # noqa: T201 -- one line for the person who typed it
        return 2
    print(f"daemon listening on {daemon.grpc_address}, metrics on http://{daemon.metrics_address}/metrics", flush=True)  # noqa: T201 -- the same
    signal.sigwait(_STOP_SIGNALS)
    daemon.stop(settings.drain_delay)
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, without the usage that --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tidegate serve",
        description="Serve the models of a registry by gRPC (Open Inference Protocol v2). "
        "Every flag is also TIDEGATE_<NAME> and a key of tidegate.toml.",
        epilog="example: tidegate serve --registry .tidegate/registry --grpc-address 127.0.0.1:8001",
    )
    for name, text in _FLAGS.items():
        default = Settings.model_fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", help=text if default is None else f"{text} (default {default})", metavar="VALUE")
    parser.add_argument(
        "--metrics-open", action="store_true", default=None, help="allow metrics on an address that is not loopback: they are unprotected"
    )
    parser.add_argument("--insecure", action="store_true", default=None, help="allow an address that is not loopback, unprotected")
    return parser


def _spare_the_collector() -> None:
    """Serving makes no reference cycles, and looking for them was a quarter of a small request: look seldom, and not at modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _configure_log() -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
