"""What each picture format can hold: the one table that reading, writing and the documents use."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import features


@dataclass(frozen=True)
class Format:
    """One picture format. The flags say what a *written* file keeps of a picture."""

    name: str
    """In Pillow's words."""
    suffixes: tuple[str, ...]
    """Lower case; the first is the usual one."""
    is_written: bool = True
    deep: bool = False
    """16 bit per channel, grey and colour."""
    grey: bool = True
    """One channel for grey pictures."""
    alpha: bool = False
    icc: bool = False
    exif: bool = False
    xmp: bool = False
    dpi: bool = False
    animated: bool = False
    """Several frames with their durations."""
    pages: bool = False
    """Several pictures without durations."""
    quality: bool = False
    """The writer has a quality from 1 to 100."""
    largest_side: int | None = None
    """Pixels that a side may have; None if any number."""


# fmt: off
_ALL = (
    Format("PNG", (".png", ".apng"), deep=True, alpha=True, icc=True, exif=True, xmp=True,
           dpi=True, animated=True),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), icc=True, exif=True, xmp=True, dpi=True,
           quality=True, largest_side=65_500),  # of libjpeg; the format has 35 more
    Format("WEBP", (".webp",), grey=False, alpha=True, icc=True, exif=True, xmp=True,
           animated=True, quality=True, largest_side=16_383),
    Format("TIFF", (".tif", ".tiff"), deep=True, alpha=True, icc=True, exif=True, xmp=True,
           dpi=True, pages=True),
    Format("BMP", (".bmp",), dpi=True),
    Format("GIF", (".gif",), is_written=False, alpha=True, animated=True, largest_side=65_535),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), is_written=False),
    Format("JPEG2000", (".jp2",), is_written=False),
)
# fmt: on
_AVIF = Format("AVIF", (".avif",), is_written=False)

FORMATS = {
    known.name: known
    # Pillow's own builds have AVIF since 11.3.
    for known in (*_ALL, *([_AVIF] if "avif" in features.get_supported() else []))
}
"""The formats that this installation reads, by name."""

_BY_SUFFIX = {suffix: known for known in FORMATS.values() for suffix in known.suffixes}

READABLE_SUFFIXES = frozenset(_BY_SUFFIX)
"""Lower-case suffixes of the files that a folder scan takes for pictures."""
WRITABLE_SUFFIXES = frozenset(suffix for suffix, known in _BY_SUFFIX.items() if known.is_written)
"""Lower-case suffixes that `write_image` has a format for."""


def format_of_suffix(suffix: str) -> Format | None:
    """The format that a suffix stands for, in upper or lower case; None if there is none."""
    return _BY_SUFFIX.get(suffix.lower())


def largest_side(suffix: str) -> int | None:
    """Pixels that a side may have in the format that a suffix stands for; None if any number."""
    known = format_of_suffix(suffix)
    return known.largest_side if known else None
