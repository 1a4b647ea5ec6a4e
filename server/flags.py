"""The command line of the daemon: its flags in groups, with units and examples. Which values are refused is decided in `settings`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from server.settings import Settings

_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "what is served, and where": {
        "registry": ("URL", "registry to follow: file:///path, a path, s3://, gs:// or az://"),
        "trusted_keys": ("PATH", "public key, or a folder of *.pub: a version that none of them signed is not served"),
        "model_dir": ("DIR", "serve DIR/model.onnx, or the only *.onnx in DIR, as version 1, without a registry"),
        "model_name": ("NAME", "of the model in --model-dir, if not as the folder"),
        "transport": ("NAME", "what carries calls: native, in Rust, once installed; grpcio, in Python; auto: the first of them there is"),
        "grpc_address": ("ADDRESS", "where gRPC listens: HOST:PORT, port 0 takes a free one; or unix:PATH, a socket for this user alone"),
        "metrics_address": ("HOST:PORT", "where Prometheus scrapes /metrics; port 0 takes a free one; replica number i has PORT + i"),
    },
    "batching and limits": {
        "max_batch_rows": ("ROWS", "most of a batch that gathers several requests"),
        "max_queue_delay": ("SECONDS", "that an idle engine waits for a batch to fill"),
        "max_queue_rows": ("ROWS", "most that may be unanswered before requests are refused"),
        "max_queue_bytes": ("BYTES", "of requests, most that may be unanswered before requests are refused"),
        "rate_limit": ("ROWS", "a second that one principal may ask for; 0: any number"),
        "rate_burst": ("ROWS", "that one principal may ask for at once; 0: those of one second"),
        "max_message_bytes": ("BYTES", "of the largest message taken or sent"),
        "engine_threads": ("N", "threads of one run in ONNX Runtime"),
    },
    "security": {
        "tokens": ("FILE", "who may call, with which token or client certificate, and what that allows (tidegate token makes entries)"),
        "jwt_keys": ("PATH", "public keys of JSON Web Tokens: a PEM file, a folder of *.pem, or a JWKS file"),
        "jwt_issuer": ("TEXT", "the iss of the JSON Web Tokens taken"),
        "jwt_audience": ("TEXT", "the aud of the JSON Web Tokens taken"),
        "tls_cert": ("FILE", "certificate chain in PEM: gRPC speaks TLS; read again when it changes"),
        "tls_key": ("FILE", "private key of the certificate, PEM without a password"),
        "tls_client_ca": ("FILE", "authorities in PEM: clients must show a certificate of one of them"),
        "metrics_open": ("", "allow metrics on an address that is not loopback: they are unprotected"),
        "insecure": ("", "allow an address that is not loopback, unprotected"),
    },
    "connections": {
        "max_metadata_bytes": ("BYTES", "of the largest metadata of one call"),
        "max_streams": ("CALLS", "most at once on one connection; further ones wait at the client"),
        "max_connection_age": ("SECONDS", "until a client is asked to connect anew; 0: never; 60 among replicas, else 3600, if not given"),
        "max_connection_age_grace": ("SECONDS", "that calls under way have to finish on a connection that is too old"),
        "max_connection_idle": ("SECONDS", "until a connection without calls is closed; 0: never"),
        "keepalive_time": ("SECONDS", "without a sign of a client until it is asked for one"),
        "keepalive_timeout": ("SECONDS", "it has to give one"),
        "min_ping_interval": ("SECONDS", "that a client has to leave between its own pings"),
    },
    "observability": {
        "prediction_log": ("DIR", "gets the rows and their predictions as Parquet files; off without it"),
        "prediction_log_share": ("SHARE", "of the requests that are logged, 0 to 1, chosen by a hash of their prediction ids"),
        "prediction_log_seconds": ("SECONDS", "most until what was logged stands in a file"),
        "prediction_log_keep_days": ("DAYS", "after which its files are removed; for ever without it"),
        "prediction_log_max_bytes": ("BYTES", "it may hold: the oldest files are removed first"),
        "prediction_log_drop": ("COLUMN", "that is not logged; may be repeated"),
        "prediction_log_hash": ("COLUMN", "of which a keyed hash is logged in its place; may be repeated"),
        "prediction_log_hash_key": ("FILE", "with the secret key of those hashes, 16 bytes or more"),
        "drift_features": ("N", "inputs of a version whose drift is among the metrics, most important first; all are counted and judged"),
        "feedback_log": ("DIR", "gets the labels sent by RecordFeedback as Parquet files; without it they are refused"),
        "tracing": ("URL", "gets spans by OTLP over gRPC, e.g. http://127.0.0.1:4317; off without it"),
        "tracing_share": ("SHARE", "of the requests traced, 0 to 1, where the caller's traceparent does not say"),
    },
    "lifecycle": {
        "replicas": ("N", "processes that share the gRPC port; one that dies is started again; SIGHUP replaces one after the other"),
        "memory_budget": ("BYTES", "that loaded versions may take together, e.g. 512MiB; 0: no bound"),
        "drain_delay": ("SECONDS", "to go on serving after SIGTERM; a second SIGTERM ends at once"),
    },
}
_REPEATED = {"prediction_log_drop", "prediction_log_hash"}
_SWITCHES = {"insecure", "metrics_open"}
_EXAMPLES = """\
examples:
  tidegate serve --registry .tidegate/registry --grpc-address 127.0.0.1:8001
        follow a registry: what is promoted to production is served, without a restart
  tidegate serve --model-dir models/churn
        serve models/churn/model.onnx as model "churn", without a registry
  tidegate serve --registry s3://models/registry --replicas 4 --metrics-address 127.0.0.1:8002
        four processes on one port, metrics on 8002 to 8005; kill -HUP replaces one after the other without a failed request

Every flag is also TIDEGATE_<NAME>, e.g. TIDEGATE_MAX_QUEUE_ROWS, and a key of tidegate.toml, e.g. max_queue_rows = 4096.
"""


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line, without the usage that --help shows."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parse(argv: Sequence[str] | None) -> Mapping[str, Any]:
    """The flags given, by name of setting; also `config` (a path) and `replica` (see `replica`). Exits with code 2 on a wrong one."""
    return {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tidegate serve",
        usage="tidegate serve [--registry URL | --model-dir DIR] [--grpc-address ADDRESS] [--replicas N] [OPTION ...]",
        description="Serve the models of a registry by gRPC (Open Inference Protocol v2).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for title, flags in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name, (unit, text) in flags.items():
            group.add_argument(f"--{name.replace('_', '-')}", **_options(name, unit, text))
        if title == "lifecycle":
            group.add_argument("--config", type=Path, metavar="FILE", help="read this TOML file in place of tidegate.toml")
    parser.add_argument("--replica", help=argparse.SUPPRESS)
    return parser


def _options(name: str, unit: str, text: str) -> dict[str, Any]:
    if name in _SWITCHES:
        return {"action": "store_true", "default": None, "help": text}
    if name in _REPEATED:
        return {"action": "append", "metavar": unit, "help": text}
    default = Settings.model_fields[name].default
    return {"metavar": unit, "help": text if default is None else f"{text} (default {default})"}
