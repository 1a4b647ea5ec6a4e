"""Client of Tidegate, and of any other server of the Open Inference Protocol v2 over gRPC.

One request is a pipeline of values:

    columns.pack -> tensors.encode -> messages.infer_request -> [channel] -> messages.prediction -> tensors.decode

`conversation` joins these steps, and what is asked, retried and asked again, into generators that do no I/O; `client.Client` and
`aio.AsyncClient` are the two ways to run them, and `identity` says who calls. What a server answers is a value of `values`; what goes wrong
is an error of `errors`.
pandas is never imported here, except by `Prediction.frame`.
"""

from tidegate_client.aio import AsyncClient
from tidegate_client.client import Client
from tidegate_client.errors import (
    AccessError,
    AnswerError,
    CallCancelledError,
    ConflictError,
    DeadlineError,
    InputError,
    NotFoundError,
    OverloadedError,
    ServerError,
    TidegateError,
    UnavailableError,
    UnsupportedError,
)
from tidegate_client.identity import Token, tls_credentials, token_file
from tidegate_client.values import (
    Columns,
    Drift,
    FeatureDrift,
    Label,
    ModelMetadata,
    Prediction,
    Receipt,
    RefusedLabel,
    ServerMetadata,
    TensorMetadata,
)

__all__ = [
    "AccessError",
    "AnswerError",
    "AsyncClient",
    "CallCancelledError",
    "Client",
    "Columns",
    "ConflictError",
    "DeadlineError",
    "Drift",
    "FeatureDrift",
    "InputError",
    "Label",
    "ModelMetadata",
    "NotFoundError",
    "OverloadedError",
    "Prediction",
    "Receipt",
    "RefusedLabel",
    "ServerError",
    "ServerMetadata",
    "TensorMetadata",
    "TidegateError",
    "Token",
    "UnavailableError",
    "UnsupportedError",
    "tls_credentials",
    "token_file",
]
