"""What may follow what: whether a change is legal in a state. Pure functions; the fold trusts that every commit passed here."""

from registry.commit import Change, Kind
from registry.errors import RuleError
from registry.state import ModelState

MAX_TEXT = 1000


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
        case Kind.STAGED:
            version = _version(change, "version")
            state.version(version)
            if stage := state.stage_of(version):
                raise RuleError(f"version {version} of {state.model!r} is already in {stage}")
        case Kind.ROUTED:
            version = _version(change, "stable")
            state.version(version)
            if version == state.production:
                raise RuleError(f"version {version} of {state.model!r} is already in production")
        case Kind.ROLLED_BACK:
            _check_rolled_back(state, change)


def _check_registered(state: ModelState, change: Change) -> None:
    version = _version(change, "version")
    if version in state.versions:
        raise RuleError(f"version {version} of {state.model!r} is already registered; a version never changes")


def _check_rolled_back(state: ModelState, change: Change) -> None:
    if state.previous_route is None:
        raise RuleError(f"model {state.model!r} has no earlier production route to roll back to")
    if _version(change, "stable") != state.previous_route.stable:
        raise RuleError(f"a rollback of {state.model!r} returns to version {state.previous_route.stable}, nothing else")


def _version(change: Change, key: str) -> int:
    version = change.payload.get(key)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RuleError(f"a {change.kind} commit needs {key}: a version number, 1 or more")
    return version


def _check_text(what: str, text: str) -> None:
    if not text.strip():
        raise RuleError(f"say the {what}: every change in the registry records it")
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise RuleError(f"the {what} is not valid Unicode text")
    if len(text) > MAX_TEXT:
        raise RuleError(f"the {what} is {len(text)} characters long; at most {MAX_TEXT}")
