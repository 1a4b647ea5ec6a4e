"""What may follow what: whether a change is legal in a state. Pure functions; the fold trusts that every commit passed here.

registered    a number that no version has
evidence      a version that is there; the newest evidence of a name counts
approved      once by each actor, not a retired version
staged        not what is staged or in production already, not a retired version
routed        not the present route once more, no retired version
rolled_back   to the route before the present one and to nothing else, no retired version
signed_off    a version that is there; the newest sign-off of an item counts
overridden    a version that is there; the newest override of a gate counts
retired       once, and not what answers, shadows, is staged, or what a rollback would return to
noted         anything, about a version or about the model; if it holds an alert, a whole one
"""

from registry import canonical
from registry.alert import ALERT, Alert
from registry.canonical import JsonObject
from registry.commit import Change, Kind
from registry.errors import FormatError, InvalidNameError, RuleError
from registry.fields import reading, record
from registry.names import MAX_VERSION, STAGING, check_digest, check_name
from registry.route import Target, parse_target
from registry.state import ModelState
from registry.version import Version

MAX_TEXT = 1000
MAX_PAYLOAD = 1 << 16
"""Bytes of a payload's canonical JSON: what is larger is evidence, a file."""


def check(state: ModelState, change: Change) -> None:
    """Refuse a change that may not follow `state`.

    Raises:
        VersionUnknownError: if it names a version that is not registered.
        RuleError: if a rule forbids it; the text says which and what to do instead.
    """
    _check_text("actor", change.actor)
    _check_text("reason", change.reason)
    match change.kind:
        case Kind.REGISTERED:
            _check_registered(state, change)
        case Kind.ROUTED:
            _check_routed(state, change)
        case Kind.ROLLED_BACK:
            _check_rolled_back(state, change)
        case Kind.NOTED if "version" not in change.payload:
            pass
        case _:
            _check_about(state, change, state.version(_version(change, "version")))
    if change.kind is Kind.NOTED and ALERT in change.payload:
        _check_alert(change)
    if len(canonical.encode(change.payload)) > MAX_PAYLOAD:
        raise RuleError(f"a {change.kind} commit holds at most {MAX_PAYLOAD} bytes: attach what is larger as evidence")


def _check_registered(state: ModelState, change: Change) -> None:
    version = _version(change, "version")
    if version in state.versions:
        raise RuleError(f"version {version} of {state.model!r} is already registered; a version never changes")
    try:
        check_digest(str(change.payload.get("manifest")))
    except InvalidNameError as error:
        raise RuleError(f"a {change.kind} commit needs manifest: the digest of a file") from error


def _check_about(state: ModelState, change: Change, version: Version) -> None:
    what = f"version {version.number} of {state.model!r}"
    match change.kind:
        case Kind.STAGED:
            if change.payload.get("stage") != STAGING:
                raise RuleError(f"a version is staged to {STAGING!r}, nothing else: production is a route")
            if stage := state.stage_of(version.number):
                raise RuleError(f"{what} is already in {stage}")
            _check_in_use(state, version)
        case Kind.APPROVED:
            _check_in_use(state, version)
            if change.actor in version.approvals:
                raise RuleError(f"{change.actor!r} has approved {what} already, with commit {version.approvals[change.actor]}")
        case Kind.EVIDENCE:
            _check_named(change, "name")
            _check_file(change)
        case Kind.SIGNED_OFF:
            _check_named(change, "item")
        case Kind.OVERRIDDEN:
            _check_named(change, "gate")
        case Kind.RETIRED:
            _check_retired(state, version, what)


def _check_routed(state: ModelState, change: Change) -> None:
    target = _target(change)
    target.check()
    _check_servable(state, target)
    if state.route and target == state.route.target:
        what = f"version {target.stable} of {state.model!r} is" if len(target.versions) == 1 else f"these versions of {state.model!r} are"
        raise RuleError(f"{what} already in production")


def _check_rolled_back(state: ModelState, change: Change) -> None:
    if state.previous_route is None:
        raise RuleError(f"model {state.model!r} has no earlier production route to roll back to")
    target = state.previous_route.target
    if _target(change) != target:
        raise RuleError(f"a rollback of {state.model!r} returns to version {target.stable}, nothing else")
    _check_servable(state, target)


def _check_servable(state: ModelState, target: Target) -> None:
    for number in target.versions:
        _check_in_use(state, state.version(number))


def _check_in_use(state: ModelState, version: Version) -> None:
    if version.retired is not None:
        raise RuleError(
            f"version {version.number} of {state.model!r} was retired with commit {version.retired}: use another, or register it anew"
        )


def _check_retired(state: ModelState, version: Version, what: str) -> None:
    _check_in_use(state, version)
    if version.number == state.staging:
        raise RuleError(f"{what} is in staging: stage another first")
    if state.route and version.number in state.route.target.versions:
        raise RuleError(f"{what} is part of the production route: route to others first")
    if state.previous_route and version.number in state.previous_route.target.versions:
        raise RuleError(f"{what} is what a rollback would return to: it can be retired after the next promotion")


def _check_named(change: Change, key: str) -> None:
    name = change.payload.get(key)
    if not isinstance(name, str):
        raise RuleError(f"a {change.kind} commit needs {key}: a name")
    try:
        check_name(name, key)
    except InvalidNameError as error:
        raise RuleError(str(error)) from error


def _check_file(change: Change) -> None:
    size = change.payload.get("size")
    try:
        check_digest(str(change.payload.get("sha256")))
    except InvalidNameError as error:
        raise RuleError(f"an {change.kind} commit needs sha256: the digest of a file") from error
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise RuleError(f"an {change.kind} commit needs size: the bytes of the file")


def _check_alert(change: Change) -> None:
    try:
        with reading("a note"):
            Alert.from_json(record(change.payload, ALERT))
    except FormatError as error:
        raise RuleError(f"a {change.kind} commit holds no whole alert: {error}") from error


def _target(change: Change) -> Target:
    _version(change, "stable")
    try:
        return parse_target(change.payload)
    except FormatError as error:
        raise RuleError(f"a {change.kind} commit needs a route: {error}") from error


def _version(change: Change, key: str) -> int:
    return _number(change.payload, key, change.kind)


def _number(payload: JsonObject, key: str, kind: Kind) -> int:
    version = payload.get(key)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= MAX_VERSION:
        raise RuleError(f"a {kind} commit needs {key}: a version number, 1 or more")
    return version


def _check_text(what: str, text: str) -> None:
    if not text.strip():
        raise RuleError(f"say the {what}: every change in the registry records it")
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RuleError(f"the {what} is not valid Unicode text")
    if len(text) > MAX_TEXT:
        raise RuleError(f"the {what} is {len(text)} characters long; at most {MAX_TEXT}")
