"""Asking the control plane: one request, its answer or its refusal. Of the rules behind a refusal nothing is known here."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus

from clients.cli.errors import CliError, InputError, RefusedError
from registry.canonical import JsonObject, decode
from registry.errors import FormatError

TIMEOUT_SECONDS = 30.0
_REFUSALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT}


def post(control: str, model: str, what: str, body: JsonObject, *, actor: str) -> JsonObject:
    """POST to `/api/v1/models/MODEL/WHAT` of the control plane at `control`; returns the JSON of the answer.

    Raises:
        RefusedError: if the control plane refuses (a rule, a gate, a missing right), with its words.
        InputError: if it knows no such model or version, or does not answer.
    """
    headers = {"Content-Type": "application/json", "X-Tidegate-Actor": actor}
    return _send(control, urllib.request.Request(_url(control, model, what), json.dumps(body).encode(), headers, method="POST"))  # noqa: S310


def get(control: str, model: str, what: str, query: Mapping[str, str]) -> JsonObject:
    """GET `/api/v1/models/MODEL/WHAT?QUERY`; raises as `post`."""
    return _send(control, urllib.request.Request(f"{_url(control, model, what)}?{urllib.parse.urlencode(query)}"))  # noqa: S310


def _url(control: str, model: str, what: str) -> str:
    if urllib.parse.urlsplit(control).scheme not in {"http", "https"}:
        raise InputError(f"{control!r} is not the address of a control plane: write http://HOST:PORT")
    return f"{control.rstrip('/')}/api/v1/models/{urllib.parse.quote(model, safe='')}/{what}"


def _send(control: str, request: urllib.request.Request) -> JsonObject:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 -- its scheme is checked in _url
            return decode(answer.read(), f"the answer of {control}")
    except urllib.error.HTTPError as error:
        raise _refusal(error, control) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"no answer from the control plane at {control} ({reason}): start it with tidegate control, or leave --control out"
        ) from error
    except FormatError as error:
        raise InputError(f"{error}: is this a control plane?") from error


def _refusal(error: urllib.error.HTTPError, control: str) -> CliError:
    kind = RefusedError if error.code in _REFUSALS else InputError
    try:
        problem = decode(error.read(), "the answer")
    except (FormatError, OSError):
        return InputError(f"{control} answered HTTP {error.code} {error.reason}: is this a control plane?")
    return kind(str(problem.get("detail") or problem.get("title") or f"HTTP {error.code}"))
