"""The page of --report: a table of pictures to sort and filter, each opens to what was found."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.pages.charts import Histogram
from dmsr_cli.pages.document import (
    Span,
    Spool,
    definitions,
    heading,
    lines_of_counts,
    write_document,
)
from dmsr_cli.pages.exhibit import Exhibit
from dmsr_cli.pages.markup import Markup, element
from dmsr_cli.pages.report_figures import (
    ReportPictures,
    histogram_figure,
    kernel_figures,
    photo_figures,
    report_pictures,
    thumbnail,
)
from dmsr_cli.pages.report_row import (
    COLUMNS,
    Record,
    facts_of,
    number_of,
    row_cells,
    warnings_of,
)

PHOTO_BYTES = 60 * 10**6
"""Of the photos that rows open to; browsers bear a page of such a size."""


@dataclass(frozen=True)
class ReportEntry:
    """One input: its object of --json, and its pictures, if it could be read."""

    record: Record
    pictures: ReportPictures | None = None


class Kept(NamedTuple):
    """Pictures that lie in the spool."""

    thumbnail: Span
    photos: Span | None
    """None where the page was full."""
    kernel: NDArray[np.float32]
    histogram: Histogram


class ReportPage:
    """A report that grows with the batch, on the disk; several threads may keep pictures."""

    def __init__(self, photo_bytes: int = PHOTO_BYTES) -> None:
        """Raises OSError if there is no place for temporary files."""
        self._spool = Spool()
        self._rows: list[Span] = []
        self._bytes_left = photo_bytes
        self._lock = threading.Lock()
        self._left_out = 0
        self._shown = {"name"}
        self._counts: Counter[str] = Counter()

    def keep(self, exhibit: Exhibit) -> Kept:
        """Make the pictures of an input and put them aside; OSError if there is no room."""
        return self._keep(report_pictures(exhibit))

    def add(self, record: Record, kept: Kept | None) -> None:
        """Add an input below the others; OSError if there is no room."""
        self._counts[record.get("status") or "ok"] += 1
        if kept is not None:
            self._shown.add("thumbnail")
            self._left_out += kept.photos is None
        self._shown |= {column.name for column in COLUMNS if column.value(record) is not None}
        self._rows.append(self._spool.put(self._row(record, kept)))

    def add_entry(self, entry: ReportEntry) -> None:
        """The same with pictures that were not put aside."""
        self.add(entry.record, None if entry.pictures is None else self._keep(entry.pictures))

    def write(self, path: str | Path, *, title: str, replace: bool, not_begun: int = 0) -> None:
        """Write the page, whole or not at all.

        Raises:
            ExistsError: the file is there, and must not be replaced.
            DmsrError: it cannot be written.
        """
        write_document(path, "report_page", title, self._body(title, not_begun), replace=replace)

    def close(self) -> None:
        """Give the disk back."""
        self._spool.close()

    def _keep(self, pictures: ReportPictures) -> Kept:
        small = self._spool.put(thumbnail(pictures.thumbnail))
        large = photo_figures(pictures)
        with self._lock:
            is_full = len(large) > self._bytes_left
            self._bytes_left -= 0 if is_full else len(large)
        photos = None if is_full else self._spool.put(large)
        return Kept(small, photos, pictures.kernel, pictures.histogram)

    def _row(self, record: Record, kept: Kept | None) -> Markup:
        number = len(self._rows)
        small = Markup() if kept is None else self._spool.text(kept.thumbnail)
        cells = [element("td", small, role="cell", class_="thumbnail")]
        row = element("tr", *cells, *row_cells(record, number), role="row")
        detail = element("td", *self._details(record, kept), role="cell", colspan=len(COLUMNS) + 1)
        opened = element(
            "tr", detail, role="row", class_="detail", id=f"detail-{number}", hidden=True
        )
        return element("tbody", row, opened, role="rowgroup", class_=record.get("status"))

    def _details(self, record: Record, kept: Kept | None) -> Iterator[Markup]:
        if kept is not None:
            photos = Markup() if kept.photos is None else self._spool.text(kept.photos)
            kernel = kernel_figures(kept.kernel, number_of(record, "kernel_width"))
            yield element("div", photos, kernel, histogram_figure(kept.histogram), class_="figures")
            if kept.photos is None:
                yield element("p", "The picture itself is left out here: the page is full.")
        if warnings := warnings_of(record):
            yield element("ul", *(element("li", text) for text in warnings), class_="warnings")
        yield definitions(facts_of(record))

    def _body(self, title: str, not_begun: int) -> Iterator[str | bytes]:
        lines = lines_of_counts(self._counts, not_begun)
        if self._left_out:
            lines.append(
                f"{self._left_out:,} are shown as thumbnails only, or this page would be too large "
                "to be opened."
            )
        yield heading(title, lines)
        yield _filter_box()
        hidden = {"thumbnail", *(column.name for column in COLUMNS)} - self._shown
        classes = " ".join(sorted(f"without-{name}" for name in hidden))
        table = element("table", _table_head(), role="table", class_=classes or None)
        yield table.removesuffix("</table>")
        for row in self._rows:
            yield self._spool.get(row)
        yield "</table>"


def write_report_page(
    path: str | Path, entries: Sequence[ReportEntry], *, title: str, replace: bool
) -> None:
    """Write a page about pictures, with a row for each.

    Raises:
        ExistsError: the file is there, and must not be replaced.
        DmsrError: it cannot be written.
    """
    page = ReportPage()
    try:
        for entry in entries:
            page.add_entry(entry)
        page.write(path, title=title, replace=replace)
    finally:
        page.close()


def _filter_box() -> Markup:
    box = element("input", type="search", id="filter", autocomplete="off")
    label = element("label", "Show only those with ", box)
    return element("p", label, element("span", id="count", role="status"), class_="tools")


def _table_head() -> Markup:
    heads = [element("th", "Picture", role="columnheader", scope="col", class_="thumbnail")]
    for column in COLUMNS:
        button = element("button", column.title, type="button", class_="sorter")
        head = element(
            *("th", button),
            role="columnheader",
            scope="col",
            class_=column.name,
            aria_sort="none",
            data_kind="number" if column.is_number else "text",
        )
        heads.append(head)
    return element("thead", element("tr", *heads, role="row"), role="rowgroup")
