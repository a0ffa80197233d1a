"""Pages of a TIFF file: which of them are pictures of their own, and each with all its bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import PIL.Image

from dmsr_cli.files import reason_of
from dmsr_cli.images.limits import Limits, check_size, pillow_settings
from dmsr_cli.images.picture import Image
from dmsr_cli.images.reading import image_of, page_of
from dmsr_cli.images.tiff_reading import needs_tifffile

if TYPE_CHECKING:
    import tifffile

_OLD_KIND = 255  # tag
_REDUCED_OR_MASK = 1 | 4


def page_numbers(file: BinaryIO) -> tuple[list[int], tuple[str, ...], str | None]:
    """Numbers of the pages that are no small copy and no mask of another; warnings; and what is
    wrong after the last one. Raises whatever tifffile does if there is no first page."""
    stored = _stored(file)
    pages, total, end = [], 0, None
    places: set[int] = set()
    try:
        for number, page in enumerate(stored.pages):
            if page.offset in places:
                raise ValueError("the next page is one of those before")  # and so on without end
            places.add(page.offset)
            kind: Any = getattr(page, "subfiletype", 0)
            if not kind & _REDUCED_OR_MASK and page.aspage().tags.valueof(_OLD_KIND) != 2:
                pages.append(number)
            total += 1
        # Its list just ends where the next page would lie outside of the file.
        file.seek(stored.pages.next_page_offset or 0)
        if any(file.read(stored.tiff.offsetsize)):
            end = "the next page is not in the file"
    except Exception as error:  # as many kinds as there are ways to damage tags
        end = reason_of(error)
    if len(pages) in (0, total):
        return list(range(total)), (), end
    left_out = total - len(pages)
    return pages, (f"its {left_out} small copies or masks of other pages were left out",), end


def read_page(file: BinaryIO, number: int, limits: Limits) -> Image:
    """One page, upright, with 16 bit where it has them."""
    picture = _opened(file, number, limits)
    return page_of(file, number, limits) if picture is None else image_of(picture, limits)


def _opened(file: BinaryIO, number: int, limits: Limits) -> PIL.Image.Image | None:
    """A page that Pillow reads with all its bits; None if it is another."""
    file.seek(0)
    with pillow_settings(limits):
        try:
            picture = PIL.Image.open(file, formats=["TIFF"])
            picture.seek(number)
        except (PIL.UnidentifiedImageError, SyntaxError):  # of the first page, of another
            return None
        if needs_tifffile(picture):
            return None
        check_size(
            picture.width, picture.height, limits
        )  # Pillow does that for the first page only
        picture.load()
    return picture


def _stored(file: BinaryIO) -> tifffile.TiffFile:
    import tifffile  # takes a moment, and only TIFF needs it

    file.seek(0)
    return tifffile.TiffFile(file)
