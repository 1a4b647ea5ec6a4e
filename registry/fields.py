"""Typed fields out of parsed JSON: what a parser asks for is there and of that type, or the error says which is not. No I/O here."""

from collections.abc import Collection
from types import TracebackType
from typing import TypeVar

from registry.canonical import Json, JsonObject
from registry.errors import FormatError, InvalidNameError

T = TypeVar("T")


class reading:  # noqa: N801 -- used as a statement; a class, since contextlib's generator takes longer than the reading itself
    """Turn what goes wrong with the fields of `what` into a FormatError that names it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, KeyError):
            raise FormatError(f"{self._what} has no field {error}") from error
        if isinstance(error, (TypeError, ValueError, OverflowError, InvalidNameError)):
            raise FormatError(f"{self._what} has a wrong field: {error}") from error


def text(value: JsonObject, key: str) -> str:
    """The text at `key`."""
    item = value[key]
    if not isinstance(item, str):
        raise TypeError(f"{key} is not text")
    return item


def integer(value: JsonObject, key: str, least: int) -> int:
    """The integer at `key`, which is at least `least`."""
    item = value[key]
    if isinstance(item, bool) or not isinstance(item, int) or item < least:
        raise TypeError(f"{key} is not an integer of at least {least}")
    return item


def number(value: JsonObject, key: str) -> float:
    """The number at `key`."""
    item = value[key]
    if isinstance(item, bool) or not isinstance(item, (int, float)):
        raise TypeError(f"{key} is not a number")
    return float(item)


def record(value: JsonObject, key: str) -> JsonObject:
    """The object at `key`."""
    item = value[key]
    if not isinstance(item, dict):
        raise TypeError(f"{key} is not an object")
    return item


def items(value: JsonObject, key: str, kind: type[T]) -> tuple[T, ...]:
    """The list at `key`, of values of exactly this kind (a bool is no int)."""
    found = value[key]
    if not isinstance(found, list):
        raise TypeError(f"{key} is not a list")
    checked = tuple(item for item in found if type(item) is kind)
    if len(checked) != len(found):
        raise TypeError(f"{key} holds something else than values of type {kind.__name__}")
    return checked


def mapping(value: JsonObject, key: str, kind: type[T]) -> dict[str, T]:
    """The object at `key`, whose values are of exactly this kind (a bool is no int)."""
    found = record(value, key)
    checked = {name: item for name, item in found.items() if type(item) is kind}
    if len(checked) != len(found):
        raise TypeError(f"{key} holds something else than values of type {kind.__name__}")
    return checked


def unknown(value: JsonObject, known: Collection[str]) -> dict[str, Json]:
    """The fields a later release added: kept, so that they survive being read and written by this one."""
    return {key: item for key, item in value.items() if key not in known}
