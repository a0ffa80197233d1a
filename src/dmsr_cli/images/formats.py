"""What each picture format can hold: the one table that reading, writing and the documents use."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from PIL import features


@dataclass(frozen=True)
class Format:
    """One picture format. The flags say what a *written* file keeps of a picture."""

    name: str
    """In Pillow's words."""
    suffixes: tuple[str, ...]
    """Lower case; the first is the usual one."""
    read_only_suffixes: tuple[str, ...] = ()
    """Those of `suffixes` that stand for something that no result fits into."""
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
    comment: bool = False
    """A free text, which holds the provenance note where there is no EXIF."""
    largest_side: int | None = None
    """Pixels that a side may have; None if any number."""


# fmt: off
_ALL = (
    Format("PNG", (".png", ".apng"), deep=True, alpha=True, icc=True, exif=True, xmp=True,
           dpi=True, animated=True, largest_side=1_000_000),  # of libpng, which most readers use
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), icc=True, exif=True, xmp=True, dpi=True,
           quality=True, largest_side=65_500),  # of libjpeg; the format has 35 more
    Format("WEBP", (".webp",), grey=False, alpha=True, icc=True, exif=True, xmp=True,
           animated=True, quality=True, largest_side=16_383),
    Format("TIFF", (".tif", ".tiff"), deep=True, alpha=True, icc=True, exif=True, xmp=True,
           dpi=True, pages=True),
    Format("BMP", (".bmp",), dpi=True),
    Format("GIF", (".gif",), alpha=True, animated=True, comment=True, largest_side=65_535),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), read_only_suffixes=(".pbm",)),
    Format("JPEG2000", (".jp2",), alpha=True, comment=True),
)
# Pillow's own builds have it since 11.3. Pillow reads grey as three channels. The side is what
# libavif reads unless told otherwise; it writes twice as much.
_AVIF = Format("AVIF", (".avif",), grey=False, alpha=True, icc=True, exif=True, xmp=True,
               animated=True, quality=True, largest_side=32_768)
# The extra `heif`. Grey with alpha is read as three channels. The side is that of libheif.
_HEIF = Format("HEIF", (".heic", ".heif"), grey=False, alpha=True, icc=True, exif=True, xmp=True,
               quality=True, largest_side=32_768)
# fmt: on


def _optional() -> list[Format]:
    """The formats that not every installation has. Looking for them imports nothing."""
    found = [_AVIF] if "avif" in features.get_supported() else []
    return [*found, _HEIF] if importlib.util.find_spec("pillow_heif") else found


FORMATS = {known.name: known for known in (*_ALL, *_optional())}
"""The formats of this installation, by name."""

_BY_SUFFIX = {suffix: known for known in FORMATS.values() for suffix in known.suffixes}

READABLE_SUFFIXES = frozenset(_BY_SUFFIX)
"""Lower-case suffixes of the files that a folder scan takes for pictures."""
WRITABLE_SUFFIXES = frozenset(
    suffix for suffix, known in _BY_SUFFIX.items() if suffix not in known.read_only_suffixes
)
"""Lower-case suffixes that `write_image` has a format for."""


def format_of_suffix(suffix: str) -> Format | None:
    """The format that a suffix stands for, in upper or lower case; None if there is none."""
    return _BY_SUFFIX.get(suffix.lower())


def format_named(name: str) -> Format | None:
    """The format of a name such as PNG or png, or of a suffix such as jpg; None if there is none.

    A suffix that is only read has none.
    """
    known = FORMATS.get(name.upper()) or format_of_suffix(f".{name}")
    return None if known and f".{name.lower()}" in known.read_only_suffixes else known


def prepare(file_format: Format) -> None:
    """Make Pillow know a format that comes from an extra; must precede reading and writing it."""
    if file_format.name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()


def largest_side(suffix: str) -> int | None:
    """Pixels that a side may have in the format that a suffix stands for; None if any number."""
    known = format_of_suffix(suffix)
    return known.largest_side if known else None
