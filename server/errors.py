"""The error tree of the daemon. `grpcio_transport.grpc_errors` says which gRPC status each class has.

ServerError
├── SettingsError                  bad usage: the program does not start
├── NotServableError               a version that cannot be loaded; it never becomes ready
└── RequestError                   answered to the caller, with a reason
    ├── ModelUnknownError          MODEL_UNKNOWN
    ├── VersionUnknownError        VERSION_UNKNOWN
    ├── InputMismatchError         INPUT_MISMATCH
    ├── QueueFullError             QUEUE_FULL
    ├── DeadlineExceededError      passed in the queue
    ├── ModelLoadingError          MODEL_LOADING
    ├── DrainingError              DRAINING
    └── ModelFailedError           MODEL_FAILED
"""

from typing import ClassVar


class ServerError(Exception):
    """Anything the daemon refuses; its text is one line that says what to do."""


class SettingsError(ServerError):
    """The settings do not let the daemon start."""


class NotServableError(ServerError):
    """A version that failed to load or to reproduce its golden rows."""


class RequestError(ServerError):
    """An answer to the caller. `reason` is machine-readable; `retry_seconds`, if set, says when trying again is sensible."""

    reason: ClassVar[str] = ""
    retry_seconds: ClassVar[float | None] = None


class ModelUnknownError(RequestError):
    """No model of this name is served."""

    reason = "MODEL_UNKNOWN"


class VersionUnknownError(RequestError):
    """The model has no such version or stage among those served."""

    reason = "VERSION_UNKNOWN"


class InputMismatchError(RequestError):
    """The inputs are not what the model's signature says; the text gives expected and got."""

    reason = "INPUT_MISMATCH"


class QueueFullError(RequestError):
    """As many rows wait as may; nothing was computed."""

    reason = "QUEUE_FULL"
    retry_seconds = 0.1


class DeadlineExceededError(RequestError):
    """The caller's deadline passed before its rows were run."""

    reason = "DEADLINE_EXCEEDED"


class ModelLoadingError(RequestError):
    """The model is registered and not loaded yet."""

    reason = "MODEL_LOADING"
    retry_seconds = 0.5


class DrainingError(RequestError):
    """The daemon is shutting down."""

    reason = "DRAINING"
    retry_seconds = 1.0


class ModelFailedError(RequestError):
    """The model itself failed on these rows."""

    reason = "MODEL_FAILED"
