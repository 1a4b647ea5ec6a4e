"""What an object store refused, as one of the registry's errors: obstore's many lines of text become one. Sends nothing.

obstore has one class for nearly every error. What happened stands only in its text: the status and the body of an answer, or the kind of
failure on the way there. `tests/registry/test_object_store.py` holds this module to what obstore really says.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

from registry.errors import AccessDeniedError, StorageFullError, StoreError, UnreachableError

_STATUS = re.compile(r"Server returned non-2xx status code: ((\d{3})[^:\n]*)")
_CODE, _MESSAGE = re.compile(r"<Code>([^<]+)</Code>"), re.compile(r"<Message>([^<\n]+)")
_NEVER_SENT = re.compile(r"Error\(\s*Connect,")
_SYSTEM = re.compile(r'message: "([^"]+)"')
_IDENTITY = re.compile(
    r"https?://(169\.254\.|metadata\.|sts\.|login\.|oauth2\.|[^/]+/(latest/api/token|latest/meta-data/iam|computeMetadata/|metadata/identity))"
)
"""Where the clouds' programs ask who they are if nothing in the environment says so."""
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_REFUSED_BEFORE_SENDING = {"NotSupportedError", "InvalidPathError", "UnknownConfigurationKeyError", "ValueError"}
_FAILS = HTTPStatus.INTERNAL_SERVER_ERROR
_ENDPOINT, _LATER = "check the endpoint and try again", "try again later"
_LONGEST_LINE = 200


@dataclass(frozen=True)
class Failure:
    """Why a request failed, in words for a person, and what that says about a write."""

    kind: type[StoreError]
    what: str
    advice: str
    sure: bool = True
    """Whether it is certain that nothing was written."""
    again: bool = False
    """Whether the same request may go better in a moment."""
    absent: bool = False
    """Whether there is no such key: what a `Store` answers with None or False."""

    def error(self, action: str, key: str) -> StoreError:
        """The error of an operation on `key` that failed for this reason."""
        untouched = ", nothing was changed" if action == "write" and self.sure else ""
        return self.kind(f"cannot {action} {key or 'the bucket'}: {self.what}: {self.advice}{untouched}")


CONFLICT = Failure(UnreachableError, "the object store keeps refusing it because of other writers (409)", "try again", again=True)


def examine(error: Exception) -> Failure:
    """What `error`, raised by obstore, means."""
    text = str(error)
    status = _STATUS.search(text)
    if _IDENTITY.search(text.partition("\n")[0]):
        return Failure(AccessDeniedError, "no credentials were found", "set those of the object store in the environment")
    if status:
        return _answered(int(status[2]), status[1].strip(), text)
    if isinstance(error, FileNotFoundError):
        return Failure(StoreError, "it is not there", "try again", absent=True)
    if type(error).__name__ in _REFUSED_BEFORE_SENDING:
        return Failure(StoreError, _line(text), "check the address and the settings in the environment")
    return _on_the_way(text)


def _answered(status: int, reason: str, text: str) -> Failure:
    """What an answer of the object store means; `reason` is its status line, `text` has its body."""
    code, message = _first(_CODE, text), _first(_MESSAGE, text)
    detail = _line(f"{status} {code}: {message}" if message else f"{status} {code}" if code else reason)
    denied = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or code in _EXPIRED
    # An answer of 500 or more is not sure: also a proxy may give it, in the name of a store that goes on writing.
    meanings = (
        (code in _NO_BUCKET, Failure(StoreError, f"there is no such bucket ({detail})", "create it, or name another")),
        (code in _FULL, Failure(StorageFullError, f"the object store is full ({detail})", "free some space and try again")),
        (denied, Failure(AccessDeniedError, f"the object store denies access ({detail})", "check the credentials and what they may do")),
        (status == HTTPStatus.NOT_FOUND, Failure(StoreError, f"it is not there ({detail})", "try again", absent=True)),
        (status == HTTPStatus.TOO_MANY_REQUESTS, Failure(UnreachableError, f"the object store is busy ({detail})", _LATER, again=True)),
        (status >= _FAILS, Failure(UnreachableError, f"the object store fails ({detail})", _LATER, sure=False, again=True)),
    )
    refused = Failure(StoreError, f"the object store refuses the request ({detail})", "check the address, the region and the endpoint")
    return next((failure for applies, failure in meanings if applies), refused)


def _on_the_way(text: str) -> Failure:
    """What it means that there was no answer, or none that could be read."""
    if "BadScheme" in text:
        return Failure(StoreError, "the endpoint is plain http", "use https, or allow it (for S3: AWS_ALLOW_HTTP=true)")
    if _NEVER_SENT.search(text):
        return Failure(UnreachableError, f"the object store does not answer ({_why_unconnected(text)})", _ENDPOINT, again=True)
    if "kind: Timeout" in text:
        return Failure(UnreachableError, "the object store does not answer (no answer in time)", _ENDPOINT, sure=False, again=True)
    if "HttpError" in text:
        why = _first(_SYSTEM, text).lower() or "it ended the connection"
        return Failure(UnreachableError, f"the object store does not answer ({why})", _ENDPOINT, sure=False, again=True)
    return Failure(StoreError, f"the object store's answer is not understood ({_line(text)})", _ENDPOINT, sure=False)


def _why_unconnected(text: str) -> str:
    if "dns error" in text:
        return "its name is not known"
    if "TimedOut" in text:  # by itself, or as the kind of another error, whichever of two clocks was faster
        return "no connection in time"
    if "ConnectError(" not in text:
        return "no secure connection: is it https, and is its certificate trusted?"
    return _first(_SYSTEM, text).lower() or "no connection"


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].strip() if found else ""


def _line(text: str) -> str:
    """The beginning of a text of many lines, in one."""
    line = " ".join(text.partition("\n\nDebug source")[0].split())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."
