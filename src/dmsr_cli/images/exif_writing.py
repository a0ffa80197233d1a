"""The EXIF block of a result: that of its source, made true again."""

from __future__ import annotations

import io
from collections.abc import Iterator, MutableMapping
from typing import Any

import PIL.Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dmsr_cli.images.metadata import LAYOUT_TAGS
from dmsr_cli.images.picture import Image
from dmsr_cli.images.provenance import PROCESSING_SOFTWARE

XMP = 700
"""TIFF's tag for an XMP packet."""
DIRECTORIES = (IFD.Exif, IFD.GPSInfo)
"""Tags that lead to more tags: the camera's settings, and the place."""

WRITTEN_TAGS = LAYOUT_TAGS | {282, 283, 296}
"""Tags that a TIFF's writer sets itself: the layout, and the resolution."""

_HEADER = b"Exif\x00\x00"


def result_exif(image: Image, note: str | None = None) -> bytes | None:
    """The block of an image with its size and a provenance note in it; None if that is nothing.

    A block that cannot be parsed gives way to one with the note alone; a file with such a block
    would be one that others cannot open.
    """
    try:
        exif = _parsed(image.exif or b"")
        changed = _set_size(exif, image)
        if not (changed or note):
            return image.exif if exif else None
        if note:
            exif[PROCESSING_SOFTWARE] = note
        return exif.tobytes()
    except Exception:  # as many kinds as there are ways to damage EXIF
        return note_block(note)


def note_block(note: str | None) -> bytes | None:
    """A block with the provenance note alone; None without one."""
    if note is None:
        return None
    exif = PIL.Image.Exif()
    exif[PROCESSING_SOFTWARE] = note
    return exif.tobytes()


def _parsed(block: bytes) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif.load(block)
    _keep_text(exif)  # all of it is looked at: damage shows now
    for directory in DIRECTORIES:
        if directory in exif:
            _keep_text(exif.get_ifd(directory))
    return exif


def _keep_text(tags: MutableMapping[int, Any]) -> None:
    """Make text that is not ASCII the bytes that it was; Pillow would write question marks."""
    for tag, value in list(tags.items()):
        if isinstance(value, str) and not value.isascii():
            tags[tag] = value.encode("latin-1", "replace")


def _set_size(exif: PIL.Image.Exif, image: Image) -> bool:
    """Give the size that EXIF claims, if it does, the result's; whether that changed anything."""
    details = exif.get_ifd(IFD.Exif) if IFD.Exif in exif else {}
    sides: dict[int, int] = {Base.ExifImageWidth: image.width, Base.ExifImageHeight: image.height}
    wrong = {tag: side for tag, side in sides.items() if details.get(tag, side) != side}
    details.update(wrong)
    return bool(wrong)


def typed_tags(block: bytes) -> Iterator[tuple[int, int, Any]]:
    """Number, type and value of each tag in the main directory of a block."""
    content = block.removeprefix(_HEADER)
    directory = ImageFileDirectory_v2(content[:8])
    file = io.BytesIO(content)
    file.seek(directory.next)
    directory.load(file)
    for tag in directory:
        yield tag, directory.tagtype[tag], directory[tag]


def sub_directories(block: bytes) -> dict[int, dict[int, Any]]:
    """The further directories of a block, by the tags that lead to them."""
    exif = _parsed(block)
    found = {}
    for directory in DIRECTORIES:
        if directory in exif:
            values = dict(exif.get_ifd(directory))
            if IFD.Interop in values:
                values[IFD.Interop] = exif.get_ifd(IFD.Interop)
            if values:
                found[int(directory)] = values
    return found


def main_directory(block: bytes | None, xmp: bytes | None) -> PIL.Image.Exif:
    """A block without its further directories, with an XMP packet as TIFF has it."""
    exif = _parsed(block or b"")
    for tag in {*DIRECTORIES, *WRITTEN_TAGS}.intersection(exif):
        del exif[tag]
    if xmp:
        exif[XMP] = xmp
    return exif
