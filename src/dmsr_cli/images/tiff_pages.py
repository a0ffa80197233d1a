"""Pages of a TIFF file: which of them are pictures of their own, and each with all its bits."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image
from PIL import TiffImagePlugin

from dmsr_cli.errors import ImageError
from dmsr_cli.files import reason_of
from dmsr_cli.images.picture import Image, Samples
from dmsr_cli.images.planes import as_float
from dmsr_cli.images.reading import MAX_PIXELS, _pillow_settings, image_of

if TYPE_CHECKING:
    import tifffile

_OLD_KIND, _BITS, _ORIENTATION = 255, 258, 274  # tags
_REDUCED_OR_MASK = 1 | 4
_RGB, _ASSOCIATED = 2, 1


def is_tiff(head: bytes) -> bool:
    """The first four bytes of a file are those of a TIFF."""
    return head in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def page_numbers(file: BinaryIO) -> tuple[list[int], tuple[str, ...], str | None]:
    """Numbers of the pages that are no small copy and no mask of another; warnings; and what is
    wrong after the last one. Raises whatever tifffile does if there is no first page."""
    stored = _stored(file)
    pages, total, end = [], 0, None
    try:
        for number, page in enumerate(stored.pages):
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


def read_page(file: BinaryIO, number: int) -> Image:
    """One page, upright, with 16 bit where it has them."""
    file.seek(0)
    with _pillow_settings():
        picture = PIL.Image.open(file, formats=["TIFF"])
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        picture.seek(number)
        if picture.width * picture.height > MAX_PIXELS:
            raise PIL.Image.DecompressionBombError(f"{picture.width} x {picture.height}")
        bits, turn = picture.tag_v2.get(_BITS, (1,)), picture.tag_v2.get(_ORIENTATION, 1)
        picture.load()
    image = image_of(picture)
    return _with_all_bits(image, file, number, turn) if len(bits) > 1 and max(bits) > 8 else image


def _with_all_bits(image: Image, file: BinaryIO, number: int, orientation: int) -> Image:
    """The page that Pillow has read at 8 bit, in colour at 16."""
    page: Any = _stored(file).pages[number].aspage()
    values: Samples = page.asarray()
    if page.photometric != _RGB or values.dtype.type != np.uint16:
        raise ImageError("it has more than 8 bit in other colours than RGB; convert it to RGB")
    if page.planarconfig == 2:
        values = np.moveaxis(values, 0, 2)  # one plane after the other
    values = as_float(_upright(values, orientation))
    pixels, alpha = values[..., :3], values[..., 3] if values.shape[2] == 4 else None
    if alpha is not None and _ASSOCIATED in page.extrasamples:
        pixels = (pixels / np.maximum(alpha, 1 / 65_535)[..., None]).clip(0, 1)
    whole = None if alpha is None else np.ascontiguousarray(alpha)
    return replace(image, pixels=np.ascontiguousarray(pixels), alpha=whole, depth=16)


def _stored(file: BinaryIO) -> tifffile.TiffFile:
    import tifffile  # takes a moment, and only TIFF needs it

    # Its remarks on odd files are for its developers, and would land on standard error.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    file.seek(0)
    return tifffile.TiffFile(file)


def _upright(values: Samples, orientation: int) -> Samples:
    """Rows and columns turned as the tag says; its values are those of EXIF."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
