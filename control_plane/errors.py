"""The error tree of the control plane. `http_errors` says which HTTP status each class has; registry and SDK have trees of their own.

ControlPlaneError
├── SettingsError           bad usage: the program does not start
├── RequestError            answered to the caller
│   ├── ParameterError      a query parameter or header that cannot be read
│   ├── NotAcceptableError  no representation the caller accepts
│   └── TensorError         the body of an inference request is not what the protocol says
├── QualityError            the quality of a version cannot be told
│   ├── LogsOffError        this control plane was not told where the logs are
│   ├── ScoreMissingError   the version, or what is logged of it, has no score to judge
│   ├── TooManyRowsError    more rows than there is memory for
│   └── LogUnreadableError  a file of the logs cannot be read
└── AnswerError             an answer of the daemon that cannot be written as the caller asked
"""


class ControlPlaneError(Exception):
    """Anything the control plane refuses; its text is one line that says what to do."""


class SettingsError(ControlPlaneError):
    """The settings do not let the control plane start."""


class RequestError(ControlPlaneError):
    """The request itself is wrong; nothing was done."""


class ParameterError(RequestError):
    """A query parameter or header that cannot be read."""


class NotAcceptableError(RequestError):
    """The document exists, in none of the media types asked for."""


class TensorError(RequestError):
    """JSON, shapes, datatypes or byte counts of an inference request that do not fit together."""


class AnswerError(ControlPlaneError):
    """The daemon answered something JSON cannot hold; binary output can."""


class QualityError(ControlPlaneError):
    """The quality of a version cannot be told."""


class LogsOffError(QualityError):
    """Nobody said where the prediction log and the feedback log are."""


class ScoreMissingError(QualityError):
    """The version has no classes, or its log no probability of the positive one."""


class TooManyRowsError(QualityError):
    """The time asked for holds more rows than there is memory for."""


class LogUnreadableError(QualityError):
    """A file of the logs is damaged, or may not be read."""
