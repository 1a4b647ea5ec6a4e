"""The flags and arguments that several commands share, so that they are spelt and explained in the same way everywhere."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_REGISTRY = "./.tidegate/registry"
DEFAULT_DAEMON = "127.0.0.1:8001"

Model: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", show_default=False)]
Version: TypeAlias = Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version: 1, 2, 3 ...", show_default=False)]

RegistryUrl: TypeAlias = Annotated[
    str,
    typer.Option("--registry", metavar="URL", envvar="TIDEGATE_REGISTRY", help="Registry: file:///path, a path, s3://, gs:// or az://."),
]
SigningKey: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        metavar="FILE",
        envvar="TIDEGATE_SIGNING_KEY",
        help="Sign with this private key (registry keygen).",
        show_default=False,
    ),
]
TrustedKeys: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trusted-keys",
        metavar="PATH",
        envvar="TIDEGATE_TRUSTED_KEYS",
        help="A public key, or a folder of *.pub: refuse what none of them signed.",
        show_default=False,
    ),
]
ControlUrl: TypeAlias = Annotated[
    str,
    typer.Option(
        "--control",
        metavar="URL",
        envvar="TIDEGATE_CONTROL",
        help="Ask this control plane, e.g. http://127.0.0.1:8000. Without it the same rules apply to the registry named by --registry.",
        show_default=False,
    ),
]
Address: TypeAlias = Annotated[
    str,
    typer.Option(
        "--address", metavar="ADDRESS", envvar="TIDEGATE_GRPC_ADDRESS", help="Where the daemon answers gRPC: HOST:PORT or unix:PATH."
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", envvar="TIDEGATE_TOKEN_FILE", help="The token to show the daemon.", show_default=False),
]
TlsCa: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        envvar="TIDEGATE_TLS_CA",
        help="Speak TLS with the daemon; its certificate must come from these authorities.",
        show_default=False,
    ),
]
ClientCert: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--client-cert", metavar="FILE", envvar="TIDEGATE_CLIENT_CERT", help="The certificate to show the daemon.", show_default=False
    ),
]
ClientKey: TypeAlias = Annotated[
    Path | None,
    typer.Option("--client-key", metavar="FILE", envvar="TIDEGATE_CLIENT_KEY", help="Its private key.", show_default=False),
]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why: it stays in the model's log.", show_default=False)]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]
