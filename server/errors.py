"""The error tree of the daemon. `grpc_errors` says which gRPC status each class has.

ServerError
├── SettingsError                  bad usage: the program does not start
├── NotServableError               a version that cannot be loaded; it never becomes ready
└── RequestError                   answered to the caller, with a reason
    ├── ModelUnknownError          MODEL_UNKNOWN
    ├── VersionUnknownError        VERSION_UNKNOWN
    ├── InputMismatchError         INPUT_MISMATCH
    ├── UnauthenticatedError       UNAUTHENTICATED
    ├── PermissionDeniedError      PERMISSION_DENIED
    ├── QueueFullError             QUEUE_FULL
    ├── DeadlineUnreachableError   DEADLINE_UNREACHABLE
    ├── RateLimitedError           RATE_LIMITED
    ├── CancelledError             the caller went away
    ├── DeadlineExceededError      passed in the queue
    ├── ModelLoadingError          MODEL_LOADING
    ├── DrainingError              DRAINING
    ├── ModelFailedError           MODEL_FAILED
    ├── FeedbackOffError           FEEDBACK_OFF
    └── FeedbackNotStoredError     FEEDBACK_NOT_STORED
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
    retry_seconds: float | None = None


class ModelUnknownError(RequestError):
    """No model of this name is served."""

    reason = "MODEL_UNKNOWN"


class VersionUnknownError(RequestError):
    """The model has no such version or stage among those served."""

    reason = "VERSION_UNKNOWN"


class InputMismatchError(RequestError):
    """The inputs are not what the model's signature says; the text gives expected and got."""

    reason = "INPUT_MISMATCH"


class UnauthenticatedError(RequestError):
    """No credentials, or none that are known and valid."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(RequestError):
    """The credentials are good and do not allow this call on this model, or nobody may make it."""

    reason = "PERMISSION_DENIED"


class QueueFullError(RequestError):
    """As many rows or bytes wait as may; nothing was computed."""

    reason = "QUEUE_FULL"
    retry_seconds = 0.1


class DeadlineUnreachableError(RequestError):
    """What waits already would take longer than the caller's deadline allows: refused at once instead of answered too late."""

    reason = "DEADLINE_UNREACHABLE"

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class RateLimitedError(RequestError):
    """The principal asks for more rows a second than it may; `retry_seconds` says when it may again."""

    reason = "RATE_LIMITED"

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class CancelledError(RequestError):
    """The caller went away before its answer; nobody reads this."""

    reason = "CANCELLED"


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


class FeedbackOffError(RequestError):
    """This daemon keeps no labels: it was started without a feedback log."""

    reason = "FEEDBACK_OFF"


class FeedbackNotStoredError(RequestError):
    """The labels could not be written; none of them is kept, and all may be sent again."""

    reason = "FEEDBACK_NOT_STORED"
    retry_seconds = 1.0
