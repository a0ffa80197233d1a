"""Conditions on records, as `noise_level > 20 and width >= 640`: read, then asked."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from dmsr_cli.errors import SettingsError

Comparison = Callable[[float, float], bool]
Record = Mapping[str, Any]

FIELDS = (
    *("noise_level", "kernel_width", "anisotropy", "orientation"),
    *("noise_confidence", "kernel_confidence", "consistency"),
    *("width", "height", "megapixels", "scale"),
)
"""Numbers of a record that conditions may ask for; megapixels follow from width and height."""
COMPARISONS: Mapping[str, Comparison] = {
    **{"<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne},
    **{"<": operator.lt, ">": operator.gt},
}
_TOKEN = re.compile(
    r"\s*(?:(?P<name>[a-z_]+)"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
    r"|(?P<comparison>[<>=!]=|[<>])|(?P<unknown>\S+))",
    re.ASCII | re.IGNORECASE,
)
Token = tuple[str, str]
"""What it is, and its text."""


@dataclass(frozen=True)
class Comparing:
    """One field against one number."""

    field: str
    comparison: str
    number: float

    def holds(self, record: Record) -> bool:
        """Whether a record fulfils it; what is not known does not."""
        value = _value(record, self.field)
        return value is not None and COMPARISONS[self.comparison](value, self.number)


@dataclass(frozen=True)
class Condition:
    """Comparisons, all of one group of which must hold: `and` binds closer than `or`."""

    groups: tuple[tuple[Comparing, ...], ...]

    def asks_for(self, field: str) -> bool:
        """Whether a field is part of it."""
        return any(one.field == field for group in self.groups for one in group)

    def holds(self, record: Record) -> bool:
        """Whether a record fulfils it."""
        return any(all(one.holds(record) for one in group) for group in self.groups)


def parse_condition(text: str) -> Condition:
    """Read a condition: FIELD OP NUMBER, joined by `and` and `or`.

    Raises:
        SettingsError: it is none, or asks for a field that is not there.
    """
    tokens = _tokens(text)
    groups: list[list[Comparing]] = [[]]
    for start in range(0, max(len(tokens), 1), 4):
        groups[-1].append(_comparing(tokens[start : start + 3]))
        joint = tokens[start + 3][1].lower() if len(tokens) > start + 3 else None
        if joint == "or":
            groups.append([])
        elif joint not in ("and", None):
            raise _error(f"after a number come `and` or `or`, not {tokens[start + 3][1]!r}")
        if joint is not None and len(tokens) == start + 4:
            raise _error(f"something is missing after {joint!r}")
    return Condition(tuple(map(tuple, groups)))


def _tokens(text: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(text.rstrip()):
        kind = match.lastgroup or "unknown"
        if kind == "unknown":
            raise _error(f"{match[kind]!r} is no part of a condition")
        found.append((kind, match[kind]))
    return found


def _comparing(tokens: list[Token]) -> Comparing:
    kinds = [kind for kind, _ in tokens]
    texts = [text for _, text in tokens]
    if not kinds or kinds[0] != "name" or texts[0].lower() in ("and", "or"):
        raise _error("it begins with a field" + (f", not {texts[0]!r}" if texts else ""))
    field = texts[0].lower()
    if field not in FIELDS:
        raise _error(f"unknown field {texts[0]!r}")
    if kinds[1:] != ["comparison", "number"]:
        raise _error(f"after {field} come one of {' '.join(COMPARISONS)} and a number")
    return Comparing(field, texts[1], float(texts[2]))


def _error(what: str) -> SettingsError:
    return SettingsError(
        f'{what}; a condition is as "noise_level > 20 and width >= 640", fields are '
        f"{', '.join(FIELDS)}"
    )


def _value(record: Record, field: str) -> float | None:
    """A number of a record; None where it is not known."""
    if field != "megapixels":
        value: float | None = record.get(field)
        return value
    width, height = record.get("width"), record.get("height")
    return None if width is None or height is None else width * height / 1e6


class ConditionType(click.ParamType["Condition"]):
    """A condition on the numbers of a record."""

    name = "condition"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Condition:
        """Text becomes a `Condition`."""
        try:
            return parse_condition(str(value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)
