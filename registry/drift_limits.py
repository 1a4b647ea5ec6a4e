"""From when a change counts as drift, over which windows that is asked, and of how many features it is shown.

Values alone, and quick to import: the arithmetic is in `drift`.
"""

from dataclasses import dataclass, field
from typing import Self

from registry.canonical import JsonObject
from registry.fields import integer, items, number, unknown

SHOWN = 100
"""So many inputs of a version are shown as metrics unless the settings say otherwise: see `drift_shown`."""
_UNITS = {"h": 3600, "m": 60, "s": 1}
_ROWS = "rows"


@dataclass(frozen=True)
class Window:
    """A tumbling window: so many `seconds`, or so many `rows`; the other one is 0."""

    seconds: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        if min(self.seconds, self.rows) < 0 or bool(self.seconds) == bool(self.rows):
            raise ValueError("a window has either seconds or rows, one or more")

    @classmethod
    def parse(cls, text: str) -> Self:
        """`1h`, `30m`, `90s` or `10000rows`, the text that a window is shown as; `parse(str(window)) == window`.

        Raises:
            ValueError: for any other text.
        """
        for unit, seconds in (*_UNITS.items(), (_ROWS, 0)):
            digits = text.removesuffix(unit)
            if digits != text and digits.isascii() and digits.isdigit() and len(digits) < 10:  # noqa: PLR2004 -- more makes no sense
                return cls(seconds=int(digits) * seconds) if seconds else cls(rows=int(digits))
        raise ValueError(f"{text[:40]!r} is no window: write 1h, 30m, 90s or 10000rows")

    def __str__(self) -> str:
        if self.rows:
            return f"{self.rows}{_ROWS}"
        unit = next(unit for unit, seconds in _UNITS.items() if self.seconds % seconds == 0)
        return f"{self.seconds // _UNITS[unit]}{unit}"


@dataclass(frozen=True)
class Limits:
    """What counts as drift: an effect (`psi` or `ks` reached), significance, enough rows, and that it lasts."""

    psi: float = 0.2
    """population stability index from which a feature counts as changed"""
    psi_warn: float = 0.1
    """index from which it is worth a look"""
    ks: float = 0.1
    """largest difference of the distribution functions from which a numeric feature counts as changed"""
    false_discovery_rate: float = 0.05
    """share of false alarms among the features found significant (Benjamini-Hochberg)"""
    min_rows: int = 500
    """observed rows below which nothing is called drift"""
    consecutive: int = 2
    """windows in a row that have to show the drift of a feature before it is believed"""
    windows: tuple[Window, ...] = (Window(seconds=3600), Window(seconds=21_600), Window(seconds=86_400), Window(rows=10_000))
    """tumbling windows that are judged, each for itself"""
    unknown: JsonObject = field(default_factory=dict, hash=False)
    """fields a later release added"""

    def __post_init__(self) -> None:
        if not (0 < self.psi_warn <= self.psi and 0 < self.ks <= 1 and 0 < self.false_discovery_rate < 1):
            raise ValueError("drift limits: 0 < psi_warn <= psi, 0 < ks <= 1 and 0 < false_discovery_rate < 1 have to hold")
        if self.min_rows < 1 or self.consecutive < 1 or len(set(self.windows)) != len(self.windows):
            raise ValueError("drift limits: min_rows and consecutive are 1 or more, and each window stands once")

    def to_json(self) -> JsonObject:
        """As it stands in a profile; `from_json(limits.to_json()) == limits`."""
        return {
            **self.unknown,
            "psi": self.psi,
            "psi_warn": self.psi_warn,
            "ks": self.ks,
            "false_discovery_rate": self.false_discovery_rate,
            "min_rows": self.min_rows,
            "consecutive": self.consecutive,
            "windows": [str(window) for window in self.windows],
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Raises ValueError, KeyError or TypeError if a field is missing or makes no sense."""
        return cls(
            psi=number(value, "psi"),
            psi_warn=number(value, "psi_warn"),
            ks=number(value, "ks"),
            false_discovery_rate=number(value, "false_discovery_rate"),
            min_rows=integer(value, "min_rows", 1),
            consecutive=integer(value, "consecutive", 1),
            windows=tuple(Window.parse(text) for text in items(value, "windows", str)),
            unknown=unknown(value, _FIELDS),
        )


_FIELDS = ("psi", "psi_warn", "ks", "false_discovery_rate", "min_rows", "consecutive", "windows")
DEFAULT_LIMITS = Limits()
