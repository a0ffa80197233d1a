"""The page of --compare-page: each picture before and after, with a divider to drag between."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from dmsr_cli.images import Image
from dmsr_cli.pages.document import Span, Spool, heading, lines_of_counts, write_document
from dmsr_cli.pages.embedding import Bytes, exact_file, photo_file, picture_element, shown
from dmsr_cli.pages.exhibit import Exhibit
from dmsr_cli.pages.markup import Markup, element, joined
from dmsr_cli.pages.report_row import Record, name_of, number_of, warnings_of

MOST_PIXELS = 4 * 10**6
"""Of a result; of a larger one, the middle is shown: shrunk, it would not show what it is like."""
MOST_SIDE = 16_000
"""Of a result, too: browsers draw no more."""
EXACT_PIXELS = 10**6
"""A picture of more is not kept to the bit, as a PNG, but as a JPEG that nobody can tell apart."""
QUALITY = 92
NAMED = 20
"""Of what is left out, so many names are told."""
PAGE_BYTES = 150 * 10**6
"""Of all pictures; browsers bear a page of such a size."""


@dataclass(frozen=True, eq=False)
class ComparePictures:
    """The same part of an input and of its result."""

    before: Bytes
    """(h, w, 3), as small as it came."""
    after: Bytes
    """(H, W, 3)."""
    size_before: tuple[int, int]
    """Width and height of the whole input."""
    size_after: tuple[int, int]
    """Width and height of the whole result."""


@dataclass(frozen=True)
class CompareEntry:
    """One input: its object of --json, and its pictures, if it was restored."""

    record: Record
    pictures: ComparePictures | None = None


class Kept(NamedTuple):
    """Pictures that lie in the spool."""

    stage: Span | None
    """None where the page was full."""
    pictures: str
    """What is said of them."""


def compare_pictures(exhibit: Exhibit) -> ComparePictures:
    """Cut what is shown out of an input and its result, the middle where they are large."""
    before, after = exhibit.image, exhibit.result
    assert after is not None, "there is nothing to compare with"
    part = _middle(before, after)
    return ComparePictures(
        before=_at_most(_cut(before, part, before), after.width, after.height),
        after=np.asarray(_cut(after, part, before)),
        size_before=(before.width, before.height),
        size_after=(after.width, after.height),
    )


class ComparePage:
    """A comparison that grows with the batch, on the disk; several threads may keep pictures."""

    def __init__(self, page_bytes: int = PAGE_BYTES) -> None:
        """Raises OSError if there is no place for temporary files."""
        self._spool = Spool()
        self._sections: list[tuple[Span, str]] = []
        self._bytes_left = page_bytes
        self._lock = threading.Lock()
        self._left_out: list[str] = []
        self._counts: Counter[str] = Counter()

    def keep(self, exhibit: Exhibit) -> Kept:
        """Make the pictures of an input and put them aside; OSError if there is no room."""
        return self._keep(compare_pictures(exhibit))

    def add(self, record: Record, kept: Kept | None) -> None:
        """Add an input below the others; only what was restored is shown."""
        self._counts[record.get("status") or "ok"] += 1
        if kept is None:
            return
        name = name_of(record)
        if kept.stage is None:
            self._left_out.append(name)
            return
        section = _section(len(self._sections) + 1, record, self._spool.text(kept.stage), kept)
        self._sections.append((self._spool.put(section), name))

    def add_entry(self, entry: CompareEntry) -> None:
        """The same with pictures that were not put aside."""
        self.add(entry.record, None if entry.pictures is None else self._keep(entry.pictures))

    def write(self, path: str | Path, *, title: str, replace: bool, not_begun: int = 0) -> None:
        """Write the page, whole or not at all.

        Raises:
            ExistsError: the file is there, and must not be replaced.
            DmsrError: it cannot be written.
        """
        write_document(path, "compare_page", title, self._body(title, not_begun), replace=replace)

    def close(self) -> None:
        """Give the disk back."""
        self._spool.close()

    def _keep(self, pictures: ComparePictures) -> Kept:
        stage = _stage(pictures)
        text = _text_about(pictures)
        with self._lock:
            if len(stage) > self._bytes_left:
                return Kept(None, text)
            self._bytes_left -= len(stage)
        return Kept(self._spool.put(stage), text)

    def _body(self, title: str, not_begun: int) -> Iterator[str | bytes]:
        lines = lines_of_counts(self._counts, not_begun)
        if self._left_out:
            lines.append(
                f"{len(self._left_out):,} are left out, or this page would be too large to be "
                f"opened: {', '.join(self._left_out[:NAMED])}"
                f"{', ...' if len(self._left_out) > NAMED else '.'}"
            )
        yield heading(title, lines)
        if len(self._sections) > 1:
            names = [name for _, name in self._sections]
            yield element("nav", element("ol", *map(_link, range(1, len(names) + 1), names)))
        if self._sections:
            yield _tools()
        for section, _ in self._sections:
            yield self._spool.get(section)


def write_compare_page(
    path: str | Path, entries: Sequence[CompareEntry], *, title: str, replace: bool
) -> None:
    """Write a page that compares pictures, one below the other.

    Raises:
        ExistsError: the file is there, and must not be replaced.
        DmsrError: it cannot be written.
    """
    page = ComparePage()
    try:
        for entry in entries:
            page.add_entry(entry)
        page.write(path, title=title, replace=replace)
    finally:
        page.close()


class _Part(NamedTuple):
    """Rows and columns of the input."""

    rows: slice
    columns: slice


def _middle(before: Image, after: Image) -> _Part:
    """The part of the input whose result has no more pixels than are shown."""
    share = min(1.0, (MOST_PIXELS / (after.height * after.width)) ** 0.5)
    height, width = (
        max(1, int(side * min(share, MOST_SIDE / side_after)))
        for side, side_after in ((before.height, after.height), (before.width, after.width))
    )
    top, left = (before.height - height) // 2, (before.width - width) // 2
    return _Part(slice(top, top + height), slice(left, left + width))


def _cut(image: Image, part: _Part, before: Image) -> PIL.Image.Image:
    """A part, given in pixels of the input, of the input or of its result."""
    rows = _scaled(part.rows, image.height / before.height)
    columns = _scaled(part.columns, image.width / before.width)
    alpha = None if image.alpha is None else image.alpha[rows, columns]
    return shown(image, image.pixels[rows, columns], alpha)


def _scaled(part: slice, factor: float) -> slice:
    first = round(part.start * factor)
    return slice(first, max(first + 1, round(part.stop * factor)))


def _at_most(picture: PIL.Image.Image, width: int, height: int) -> Bytes:
    """What is larger than its result, with --size, is shown in the result's size."""
    if picture.width <= width and picture.height <= height:
        return np.asarray(picture)
    size = min(picture.width, width), min(picture.height, height)
    return np.asarray(picture.resize(size, PIL.Image.Resampling.LANCZOS))


def _stage(pictures: ComparePictures) -> Markup:
    """Both pictures, one over the other, in the size of the result."""
    height, width = pictures.after.shape[:2]
    return element(
        "div",
        picture_element(_file(pictures.before), "Before", width, height, "before"),
        picture_element(_file(pictures.after), "After", width, height, "after"),
        class_="stage",
        data_width=width,
        data_height=height,
    )


def _file(pixels: Bytes) -> bytes:
    height, width = pixels.shape[:2]
    return exact_file(pixels) if height * width <= EXACT_PIXELS else photo_file(pixels, QUALITY)


def _text_about(pictures: ComparePictures) -> str:
    sizes = [_size(*pictures.size_before), _size(*pictures.size_after)]
    text = " → ".join(sizes)
    height, width = pictures.after.shape[:2]
    if (width, height) != pictures.size_after:
        text += f", of which this is the middle, {_size(width, height)}"
    if height * width > EXACT_PIXELS:
        text += f", the result as a JPEG of quality {QUALITY}"
    return text


def _size(width: int, height: int) -> str:
    return f"{width}x{height}"


def _section(number: int, record: Record, stage: Markup, kept: Kept) -> Markup:
    name = name_of(record)
    facts = [kept.pictures]
    for key, form in (("kernel_width", "blur {:.2f} px"), ("noise_level", "noise {:.1f}")):
        value = number_of(record, key)
        if value is not None:
            facts.append(form.format(value))
    if record.get("frames"):
        facts.append(f"the first of {record['frames']} frames")
    divider = element(
        "input",
        type="range",
        class_="divider",
        min=0,
        max=100,
        step="any",
        value=50,
        autocomplete="off",
        aria_label=f"Divider of {name}: before on the left, after on the right",
    )
    view = element("div", stage, class_="view", tabindex=0, role="region", aria_label=name)
    labels = [element("span", text, class_=f"label {text}") for text in ("before", "after")]
    frame = element("div", view, element("div", class_="line"), *labels, divider, class_="frame")
    about = [element("p", text, class_="warning") for text in warnings_of(record)]
    return element(
        *("section", element("h2", name), element("p", ", ".join(facts)), *about, frame),
        id=f"picture-{number}",
    )


def _link(number: int, name: str) -> Markup:
    return element("li", element("a", name, href=f"#picture-{number}"))


def _tools() -> Markup:
    zooms = [("fit", "to fit"), ("1", "x1"), ("2", "x2"), ("4", "x4")]
    manners = [("smooth", "smoothly"), ("pixels", "as pixels")]
    return element(
        "form",
        _choice("zoom", "Size", zooms),
        _choice("enlarge", "Enlarge", manners),
        class_="tools",
    )


def _choice(name: str, title: str, values: list[tuple[str, str]]) -> Markup:
    labels = [
        element(
            "label",
            element("input", type="radio", name=name, value=value, checked=number == 0),
            joined(" ", text),
        )
        for number, (value, text) in enumerate(values)
    ]
    return element("fieldset", element("legend", title), *labels)
