"""Reads still pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import PIL.Image

from dmsr_cli.errors import ImageError
from dmsr_cli.files import check_is_file, display_name, reason_of
from dmsr_cli.images.colour import cmyk_to_srgb, lab_to_srgb, usable_profile
from dmsr_cli.images.deep_reading import deep_decoder
from dmsr_cli.images.formats import FORMATS
from dmsr_cli.images.heif_reading import HeifPicture, is_heif
from dmsr_cli.images.limits import (
    BOMBS,
    CUT_SHORT,
    USUAL,
    Limits,
    check_size,
    loading_settings,
    pillow_settings,
    too_large,
)
from dmsr_cli.images.metadata import Metadata, metadata_of_picture
from dmsr_cli.images.picture import Image
from dmsr_cli.images.raster import Raster, planes_of, raster_of
from dmsr_cli.images.tiff_reading import TiffPage, is_tiff, needs_tifffile

MAX_STREAM_BYTES = 2**32
"""Most that is read from a stream, which has no size that could be looked at first."""

_STREAM_CHUNK = 2**20
_BY_PILLOW = tuple(name for name in FORMATS if name != "HEIF")


def read_image(source: str | Path | BinaryIO, limits: Limits = USUAL) -> Image:
    """Read one picture, the first frame of an animation, turned upright as its EXIF says.

    `source` is a file, or a binary stream, which is read to its end and called standard input.
    Palettes become RGB; CMYK becomes sRGB through its profile, or plainly where there is none;
    grey is replicated to three channels. More than 8 bit per channel keep their precision.
    Metadata that are damaged are left out, and the picture's `warnings` say so.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, cut short, not a picture, or
            has more pixels than the limits allow.
    """
    if not isinstance(source, (str, Path)):
        whole = read_stream(source)
        with _named("standard input", limits):
            return _decode_within(whole, limits)
    path = Path(source)
    with _named(display_name(path), limits):
        check_is_file(path, "picture")
        with path.open("rb") as file:
            return _decode_within(file, limits)


def read_stream(stream: BinaryIO) -> BinaryIO:
    """All that comes from standard input, in memory, where decoders can go back in it.

    Raises:
        ImageError: it is empty, has more than MAX_STREAM_BYTES, or cannot be read.
    """
    with _named("standard input"):
        return _whole_stream(stream)


@contextlib.contextmanager
def _named(name: str, limits: Limits = USUAL) -> Iterator[None]:
    """Whatever goes wrong becomes one line that has the name in it."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {name}: no such file") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture that can be read; convert it to PNG or JPEG first"
        ) from error
    except BOMBS as error:
        raise ImageError(f"cannot read {name}: it {too_large(error, limits)}") from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: it does not fit into memory") from error
    except Exception as error:  # decoders raise about every class there is
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"cannot read {name}: {reason_of(error)}") from error
        raise ImageError(
            f"cannot read {name}: it is damaged or cut short ({reason_of(error)})"
        ) from error


def _whole_stream(stream: BinaryIO) -> BinaryIO:
    """All that comes: a pipe cannot be gone back in, and decoders go back."""
    parts, size = [], 0
    while part := stream.read(_STREAM_CHUNK):
        parts.append(part)
        size += len(part)
        if size > MAX_STREAM_BYTES:
            raise ImageError(f"it has more than {MAX_STREAM_BYTES} bytes; name a file instead")
    if not parts:
        raise ImageError("it is empty; a picture must be sent to it")
    return io.BytesIO(b"".join(parts))


def _decode_within(file: BinaryIO, limits: Limits) -> Image:
    """The picture if it is whole; else, if that is allowed, what is there of it."""
    if not limits.allow_truncated:
        return _decode(file, limits)
    try:
        return _decode(file, limits.strict)
    except (ImageError, MemoryError, PIL.UnidentifiedImageError, *BOMBS):
        raise
    except Exception:  # decoders raise about every class there is
        file.seek(0)
        return _with_warnings(_decode(file, limits), (CUT_SHORT,))


def _decode(file: BinaryIO, limits: Limits) -> Image:
    try:
        with pillow_settings(limits):
            # Naming the formats keeps Pillow from trying others; some of those start programs.
            picture = PIL.Image.open(file, formats=_BY_PILLOW)
    except PIL.UnidentifiedImageError:
        return _decode_without_pillow(file, limits)
    with picture:
        if needs_tifffile(picture):
            return page_of(file, limits=limits)
        # Of what is cut short, Pillow gives a part, if with 8 bit; other decoders nothing.
        deep = None if limits.allow_truncated else deep_decoder(picture, file)
        clauses = _tiff_clauses(picture, limits)
        with loading_settings(picture, limits):
            # All of it: a file that is cut short fails here. Pillow takes many seconds for a deep
            # PNM, which has nothing that the deep decoder would not see.
            if not (deep and picture.format == "PPM"):
                picture.load()
        if deep is None:
            return _with_warnings(image_of(picture, limits), clauses)
        with pillow_settings(limits):
            found = metadata_of_picture(picture)
        name = _format_name(picture)
    del picture  # its pixels of 8 bit have shown that the file is whole, and make room
    return _assembled(deep(), found, found.icc_profile, None, name, depth=16)


def _tiff_clauses(picture: PIL.Image.Image, limits: Limits) -> tuple[str, ...]:
    """What is wrong with the tags of a TIFF, which Pillow reads on loading and only once."""
    if picture.format != "TIFF":
        return ()
    with pillow_settings(limits):
        return metadata_of_picture(picture).warnings


def _with_warnings(image: Image, clauses: tuple[str, ...]) -> Image:
    return dataclasses.replace(image, warnings=tuple(dict.fromkeys((*clauses, *image.warnings))))


def image_of(picture: PIL.Image.Image, limits: Limits = USUAL) -> Image:
    """A decoded picture of Pillow as one of ours. It may be changed."""
    with pillow_settings(limits):
        found = metadata_of_picture(picture)
    name, profile, clause = _format_name(picture), found.icc_profile, None
    if picture.mode == "CMYK":
        if name == "JPEG" and "adobe" not in picture.info:
            # Pillow takes all for Adobe's, who store paper; without its marker it is ink.
            picture = PIL.Image.eval(picture, lambda ink: 255 - ink)
        picture, clause = cmyk_to_srgb(picture, profile)
        profile = None
    elif picture.mode == "LAB":
        picture, profile = lab_to_srgb(picture), None
    depth = 16 if picture.mode[0] in "IF" else 8
    return _assembled(raster_of(picture), found, profile, clause, name, depth)


def page_of(file: BinaryIO, number: int = 0, limits: Limits = USUAL) -> Image:
    """A page of an open TIFF of any bit depth, counted from 0."""
    page = TiffPage(file, number)
    check_size(page.width, page.height, limits)
    with pillow_settings(limits):
        found = page.metadata()
    raster, clause = page.raster(found.icc_profile)
    profile = None if page.has_inks else found.icc_profile
    return _assembled(raster, found, profile, clause, "TIFF", 16 if page.bits > 8 else 8)


def _decode_without_pillow(file: BinaryIO, limits: Limits) -> Image:
    """A picture that Pillow does not know, by its content; fails as Pillow does."""
    file.seek(0)
    head = file.read(12)
    if is_tiff(head):
        return page_of(file, limits=limits)
    if not is_heif(head):
        raise PIL.UnidentifiedImageError
    picture = HeifPicture(file)
    check_size(picture.width, picture.height, limits)
    with pillow_settings(limits):
        found = picture.metadata()
    depth = 16 if picture.bits > 8 else 8
    return _assembled(picture.raster(), found, found.icc_profile, None, "HEIF", depth)


def _assembled(
    raster: Raster,
    found: Metadata,
    icc_profile: bytes | None,
    clause: str | None,
    file_format: str,
    depth: int,
) -> Image:
    profile, fault = usable_profile(icc_profile, grey=raster.grey)
    pixels, alpha = planes_of(raster, found.orientation)
    return Image(
        pixels,
        alpha,
        raster.grey,
        profile,
        found.exif,
        found.dpi,
        file_format,
        found.xmp,
        depth,
        (*found.warnings, *(clause for clause in (clause, fault) if clause)),
    )


def _format_name(picture: PIL.Image.Image) -> str:
    return "JPEG" if picture.format == "MPO" else picture.format or ""
