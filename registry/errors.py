"""The error tree of the registry. How an error becomes a gRPC or an HTTP status is decided by the program that answers.

RegistryError
├── InvalidNameError        a model, file or stage name outside the allowed alphabet
├── NotFoundError
│   ├── ModelUnknownError
│   └── VersionUnknownError
├── RuleError               a commit that may not follow the present state
├── ConflictError           others kept committing first; nothing was written
├── FormatError             bytes that are not what their place says, or of a newer format
├── CorruptError            bytes whose digest is not the recorded one
├── NotARegistryError       a folder that holds something else, or nothing yet
└── StoreError              the storage refused: full, read-only, permission denied
"""


class RegistryError(Exception):
    """Anything the registry refuses or finds broken; its text is one line that says what to do."""


class InvalidNameError(RegistryError):
    """A name outside the allowed alphabet, or a path where a name should stand."""


class NotFoundError(RegistryError):
    """What was asked for is not in the registry."""


class ModelUnknownError(NotFoundError):
    """No model of this name has a registered version."""


class VersionUnknownError(NotFoundError):
    """The model has no such version, or nothing in this stage."""


class RuleError(RegistryError):
    """The commit may not follow the present state of the model; nothing was written."""


class ConflictError(RegistryError):
    """Other writers kept committing first; nothing was written, trying again is safe."""


class FormatError(RegistryError):
    """Bytes that do not parse as the format that belongs at their place."""


class CorruptError(RegistryError):
    """Bytes whose sha256 differs from the recorded one."""


class NotARegistryError(RegistryError):
    """The place named is not a registry."""


class StoreError(RegistryError):
    """The storage below refused to read or write."""
