"""What a report tells of one input: the cells of its row, and the numbers below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dmsr_cli.files import display_name
from dmsr_cli.pages.markup import Markup, element, joined

Record = dict[str, Any]
"""One object of --json. What it lacks, or has as null, is not shown."""


class Column(NamedTuple):
    """A column of the table; it is shown if it has something to show of any input."""

    name: str
    """Its class in the style sheet."""
    title: str
    value: Callable[[Record], str | float | None]
    """What it is sorted by; None where there is nothing."""
    shown: Callable[[Any], str] = str
    """How the value reads."""
    is_number: bool = True


def number_of(record: Record, key: str) -> float | None:
    """A finite number of the record; None if it has none there."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def name_of(record: Record) -> str:
    """The input as people read it."""
    name = str(record.get("input", ""))
    return "standard input" if name == "-" else display_name(name)


def warnings_of(record: Record) -> list[str]:
    """What is to be kept in mind about an input: reservations about the estimate come first."""
    return [str(text) for key in ("reservations", "warnings") for text in record.get(key) or ()]


def pixels_text(record: Record) -> str:
    """Width and height, as 320x220; empty if they are not known."""
    width, height = number_of(record, "width"), number_of(record, "height")
    return "" if width is None or height is None else f"{width:.0f}x{height:.0f}"


def _confidence(record: Record) -> float | None:
    """The lower of both."""
    both = [number_of(record, f"{of}_confidence") for of in ("kernel", "noise")]
    known = [one for one in both if one is not None]
    return min(known, default=None)


def _finding(record: Record) -> str | None:
    """In words: what was found, or why nothing was."""
    text = record.get("error") or record.get("sentence") or record.get("reason")
    return None if text is None else str(text)


def _pixels(record: Record) -> float | None:
    width, height = number_of(record, "width"), number_of(record, "height")
    return None if width is None or height is None else width * height


COLUMNS = (
    Column("name", "Name", name_of, is_number=False),
    Column("finding", "What is wrong", _finding, is_number=False),
    Column("blur", "Blur (px)", lambda record: number_of(record, "kernel_width"), "{:.2f}".format),
    Column(
        "noise", "Noise (of 255)", lambda record: number_of(record, "noise_level"), "{:.1f}".format
    ),
    Column("confidence", "Confidence", _confidence, "{:.0%}".format),
    Column(
        *("consistency", "Consistency (dB)"),
        *(lambda record: number_of(record, "consistency"), "{:.1f}".format),
    ),
    Column("size", "Size", _pixels),
)


def row_cells(record: Record, number: int) -> list[Markup]:
    """A cell for each of `COLUMNS`."""
    return [_cell(column, record, number) for column in COLUMNS]


def _cell(column: Column, record: Record, number: int) -> Markup:
    value = column.value(record)
    sorted_by = "" if value is None else f"{value:.6g}" if column.is_number else str(value)
    content: str = "" if value is None else column.shown(value)
    if column.name == "size":
        content = pixels_text(record)
    elif column.name == "name":
        content = _opener(content, number)
    elif column.name == "finding":
        content = joined(content, _badge(record))
    return element(
        *("td", content),
        role="cell",
        class_=column.name,
        data_value=sorted_by,
        data_title=column.title if column.is_number else None,  # of narrow pages, without a head
    )


def _opener(name: str, number: int) -> Markup:
    return element(
        *("button", name),
        type="button",
        class_="opener",
        aria_expanded="false",
        aria_controls=f"detail-{number}",
    )


def _badge(record: Record) -> Markup:
    """That there is something to be kept in mind; what it is stands below."""
    count = len(warnings_of(record))
    if not count:
        return Markup()
    return element("span", f"{count} {'warning' if count == 1 else 'warnings'}", class_="badge")


def facts_of(record: Record) -> Iterable[tuple[str, str]]:
    """Names and values of all that is known of an input."""
    for name, text in (
        ("Blur", _text(record, "kernel_width", "{:.2f} px of the enlarged picture")),
        ("Confidence in the blur", _text(record, "kernel_confidence", "{:.0%}")),
        ("Anisotropy of the blur", _text(record, "anisotropy", "{:.2f}")),
        ("Direction of the blur", _text(record, "orientation", "{:.0f}° from horizontal")),
        ("Noise", _text(record, "noise_level", "{:.2f} of 255")),
        ("Noise of red, green, blue", _channels(record)),
        ("Confidence in the noise", _text(record, "noise_confidence", "{:.0%}")),
        ("Consistency of the result", _text(record, "consistency", "{:.2f} dB")),
        ("Damage of the kind trained on", _yes_or_no(record.get("damage_in_range"))),
        ("Size", pixels_text(record)),
        ("Frames", _text(record, "frames", "{:.0f}, of which this is the first")),
        ("Scale", _text(record, "scale", "{:g}")),
        ("Model", _name(record.get("model"))),
        ("Result", _name(record.get("output"))),
    ):
        if text:
            yield name, text


def _text(record: Record, key: str, form: str) -> str:
    value = number_of(record, key)
    return "" if value is None else form.format(value)


def _channels(record: Record) -> str:
    levels = record.get("noise_levels") or ()
    return ", ".join(f"{level:.1f}" for level in levels)


def _yes_or_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def _name(value: object) -> str:
    return "" if value is None else display_name(str(value))
