"""What every page has: head, style and script in the file, a policy that forbids all network."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import threading
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from dmsr_cli.files import atomic_write
from dmsr_cli.pages.markup import Markup, element

PAGE_BEGINNING = b"<!DOCTYPE html>\n<!-- a page made by dmsr -->\n"
"""Of every page of ours, and of no other file: what may be written over."""


class Span(NamedTuple):
    """Where a text lies in a spool, in bytes."""

    start: int
    length: int


class Spool:
    """Texts on the disk, in a file without a name, until their page is written: as many as there
    are, they take no memory. Several threads may use it.
    """

    def __init__(self) -> None:
        # A context manager would end with the constructor: the page goes on for a whole batch.
        self._file = tempfile.TemporaryFile(prefix="dmsr-")  # noqa: SIM115
        self._lock = threading.Lock()
        self._end = 0

    def put(self, text: str) -> Span:
        """Add a text; OSError if there is no room."""
        # A lone surrogate, as in names that are not in UTF-8, is no reason to lose a page.
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            span = Span(self._end, len(data))
            self._file.seek(span.start)
            self._file.write(data)
            self._end += len(data)
        return span

    def get(self, span: Span) -> bytes:
        """A text that was put there, as UTF-8."""
        with self._lock:
            self._file.seek(span.start)
            return self._file.read(span.length)

    def text(self, span: Span) -> Markup:
        """The same as markup, which it must have been."""
        return Markup(self.get(span).decode("utf-8"))

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


def write_document(
    path: str | Path,
    kind: str,
    title: str,
    body: Iterable[str | bytes],
    *,
    replace: bool,
) -> None:
    """Write a page, whole or not at all.

    Args:
        path: of the page.
        kind: the name of its style sheet and its script in this package.
        title: plain text.
        body: pieces of markup, as text or as UTF-8.
        replace: a file that is there may be replaced.

    Raises:
        ExistsError: the file is there, and must not be replaced.
        DmsrError: it cannot be written.
    """
    style = _package_text("common.css") + _package_text(f"{kind}.css")
    script = _package_text(f"{kind}.js")
    with atomic_write(path, replace=replace) as temporary, temporary.open("wb") as file:
        file.write(PAGE_BEGINNING)
        file.write(b'<html lang="en">\n')
        file.write(_head(title, style, script).encode("utf-8", "backslashreplace"))
        file.write(b"\n<body>\n")
        for piece in body:
            file.write(
                piece.encode("utf-8", "backslashreplace") if isinstance(piece, str) else piece
            )
            file.write(b"\n")
        file.write(element("script", Markup(script)).encode())
        file.write(b"\n</body>\n</html>\n")


def _head(title: str, style: str, script: str) -> Markup:
    policy = "; ".join(
        [
            *("default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"),
            *(f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'"),
        ]
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # else browsers ask a server for one
        element("title", title),
        element("style", Markup(style)),
    )


def _digest(text: str) -> str:
    """What a policy calls a style sheet or a script that is in the page."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"


def _package_text(name: str) -> str:
    return (files("dmsr_cli.pages") / name).read_text(encoding="utf-8")


def heading(title: str, lines: Iterable[str]) -> Markup:
    """The top of a page: its title, and a paragraph for each line of text."""
    paragraphs = [element("p", line) for line in lines]
    return element("header", element("h1", title), *paragraphs)


def lines_of_counts(counts: dict[str, int], not_begun: int) -> list[str]:
    """How many pictures ended how, for people.

    Args:
        counts: inputs that ended in each status.
        not_begun: inputs that were not, because somebody ended the batch.
    """
    total = sum(counts.values())
    told = [
        f"{counts.get(status, 0):,} {word}"
        for status, word in (("ok", "done"), ("skipped", "skipped"), ("failed", "failed"))
    ]
    lines = [f"{total:,} {'picture' if total == 1 else 'pictures'}: {', '.join(told)}."]
    if not_begun:
        verb = "was" if not_begun == 1 else "were"
        lines.append(f"The run was interrupted: {not_begun:,} more {verb} not begun.")
    return lines


def definitions(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Names and values as a list of definitions."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs),
    )
