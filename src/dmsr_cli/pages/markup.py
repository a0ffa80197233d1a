"""HTML elements whose text cannot turn into markup."""

from __future__ import annotations

from html import escape

_WITHOUT_END = {"img", "input", "link", "meta"}


class Markup(str):
    """Text that is HTML already; all other text is escaped where it enters an element."""

    __slots__ = ()


def element(tag: str, /, *content: str, **attributes: str | float | bool | None) -> Markup:
    """An element with its content and attributes.

    An attribute that is a word of Python's gets an underscore at its end (`class_`), and
    underscores within stand for hyphens. True is an attribute without a value; False and None are
    none.
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is True:
            parts.append(f" {_attribute(key)}")
        elif value is not None and value is not False:
            parts.append(f' {_attribute(key)}="{escape(str(value))}"')
    parts.append(">")
    if tag not in _WITHOUT_END:
        parts += [joined(*content), f"</{tag}>"]
    return Markup("".join(parts))


def joined(*content: str) -> Markup:
    """Pieces one after the other, escaped where they are no markup."""
    return Markup("".join(one if isinstance(one, Markup) else escape(one) for one in content))


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
