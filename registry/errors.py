"""The error tree of the registry. How an error becomes a gRPC or an HTTP status is decided by the program that answers.

RegistryError
├── InvalidNameError        a model, file or stage name outside the allowed alphabet
├── NotFoundError
│   ├── ModelUnknownError
│   └── VersionUnknownError
├── RuleError               a commit that may not follow the present state
│   └── AlreadyNotedError   an alert that the log holds already
├── ModelRefusedError       an ONNX file that the guard at the door does not let in
├── ConflictError           others kept committing first; nothing was written
├── FormatError             bytes that are not what their place says, or of a newer format
├── CorruptError            bytes whose digest is not the recorded one
├── SignatureError          bytes that no trusted key signed
├── KeyFileError            a file that should hold a key, or a folder of keys, and does not
├── NotARegistryError       a place that holds something else, or nothing yet
└── StoreError              the storage refused
    ├── StorageFullError        no space, or a quota used up; nothing was written
    ├── AccessDeniedError       read-only, permission denied, wrong credentials; nothing was written
    ├── UnreachableError        the storage does not answer or fails by itself; no value was written
    └── OutcomeUnknownError     it stopped answering while it wrote: look before trying again
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


class AlreadyNotedError(RuleError):
    """The log holds this notice of this alert; whoever told it again may take it as done."""


class ModelRefusedError(RegistryError):
    """The ONNX file is not one that may be registered; the text says why. Nothing was registered."""


class ConflictError(RegistryError):
    """Other writers kept committing first; nothing was written, trying again is safe."""


class FormatError(RegistryError):
    """Bytes that do not parse as the format that belongs at their place."""


class CorruptError(RegistryError):
    """Bytes whose sha256 differs from the recorded one."""


class SignatureError(RegistryError):
    """Bytes without a signature, with a wrong one, or with one of a key that is not trusted."""


class KeyFileError(RegistryError):
    """A key that cannot be read or written: no such file, not a key, not Ed25519."""


class NotARegistryError(RegistryError):
    """The place named is not a registry."""


class StoreError(RegistryError):
    """The storage below refused to read or write."""


class StorageFullError(StoreError):
    """No space is left, or a quota is used up; nothing was changed, trying again is safe once there is space."""


class AccessDeniedError(StoreError):
    """The storage may not be read or written by who runs this; nothing was changed."""


class UnreachableError(StoreError):
    """The storage does not answer, or says that it fails; no value was written, trying again later is safe."""


class OutcomeUnknownError(StoreError):
    """The storage stopped answering while it wrote: the value is there whole or not at all. Look before trying again."""
