"""Writes still pictures, whole or not at all."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from dmsr_cli.errors import DmsrError, ImageError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.images.deep_writing import encode_png
from dmsr_cli.images.exif_writing import main_directory, note_block, result_exif
from dmsr_cli.images.formats import (
    FORMATS,
    WRITABLE_SUFFIXES,
    Format,
    format_named,
    format_of_suffix,
    prepare,
)
from dmsr_cli.images.picture import Image, Samples
from dmsr_cli.images.planes import is_float
from dmsr_cli.images.provenance import Provenance
from dmsr_cli.images.stored_colour import kept_profile
from dmsr_cli.images.stored_pixels import stored_picture as stored_picture
from dmsr_cli.images.stored_pixels import stored_samples
from dmsr_cli.images.tiff_writing import encode_tiff

_JPEG_EXIF_LIMIT = 65_533  # bytes in one APP1 segment
_JPEG_XMP_LIMIT = 65_504  # the same, less its signature

_Parts = list[bytes | memoryview]


def write_image(
    image: Image | NDArray[np.floating[Any] | np.uint8 | np.uint16],
    target: str | Path | BinaryIO,
    *,
    format: str | None = None,
    quality: int = 95,
    metadata: bool = True,
    provenance: Provenance | None = None,
    replace: bool = True,
    before_rename: Callable[[Path], None] | None = None,
) -> None:
    """Write a picture to a file, whole or not at all, or to a stream, once all of it is encoded.

    An array is height x width x 3, or height x width for grey: float in [0, 1], where values
    outside are clipped, uint8, or uint16. PNG and TIFF get 16 bit per channel from a uint16 array
    and from an `Image` of depth 16; everything else is rounded to 8 bit. A grey picture is stored
    as one channel, the BT.601 luma, in formats that have such a form. Formats without alpha get
    the picture over white; GIF shows what is at least half opaque, and has 256 colours. JPEG and
    AVIF have no chroma subsampling, JPEG2000 is lossless.

    Args:
        image: the picture.
        target: a path, or a binary stream, which needs a format.
        format: "png", "jpeg", "tif", ...; if not given, what the suffix stands for.
        quality: from 1 to 100, for JPEG, WebP, AVIF and HEIF.
        metadata: EXIF, XMP and resolution go along. The colour profile does so in any case,
            because it is what the colours mean; where the format cannot hold it, or it does not
            fit the stored channels, the colours are converted to sRGB.
        provenance: what the note says about the making of the picture; without one there is none.
            It is kept in EXIF, in GIF and JPEG2000 in the comment.
        replace: a file that is there may be replaced.
        before_rename: called with the path of the finished temporary file; not for streams.

    Raises:
        ExistsError: the file is there and must not be replaced.
        ImageError: no format for the suffix, a picture too large for the format, values that are
            not finite, an array of another shape or type, or a target that cannot be written.
        SettingsError: `quality` is out of range, the format is unknown, or a stream has none.
    """
    if not 1 <= quality <= 100:
        raise SettingsError(f"quality must be from 1 to 100, not {quality}")
    file_format, name = _format_for(target, format), _name_of(target)
    try:
        checked = _checked(image)
        _refuse_colour_in_grey(checked, target, format)
        parts = encoded(checked, file_format, quality, metadata, provenance)
    except ImageError as error:
        raise ImageError(f"cannot write {name}: {error}") from error
    except Exception as error:  # encoders, too, raise what they like
        raise ImageError(f"cannot write {name}: {reason_of(error)}") from error
    try:
        _write(parts, target, replace, before_rename)
    except ImageError:
        raise
    except DmsrError as error:
        raise ImageError(str(error)) from error
    except (OSError, ValueError) as error:  # of a stream: broken, or closed
        raise ImageError(f"cannot write {name}: {reason_of(error)}") from error


def encoded(
    image: Image,
    file_format: Format,
    quality: int,
    metadata: bool = True,
    provenance: Provenance | None = None,
) -> _Parts:
    """The bytes of the file, in parts. Encoding in memory leaves the disk with plain writes only.

    Raises:
        ImageError: the picture is too large for the format, or has values that are not finite.
    """
    largest = file_format.largest_side
    if largest and max(image.height, image.width) > largest:
        raise ImageError(
            f"{image.width} x {image.height} pixels are too many, {file_format.name} allows "
            f"{largest} on a side; use .png or .tif"
        )
    image = prepared_image(image, file_format, metadata, provenance)
    depth = 16 if file_format.deep and image.depth == 16 else 8
    if file_format.name == "TIFF":
        samples = stored_samples(image, file_format, depth)
        profile = kept_profile(image, file_format)
        return [encode_tiff(samples, profile, image.exif, image.xmp, image.dpi)]
    options = save_options(image, file_format, quality)
    if depth == 16:
        return encode_png(stored_samples(image, file_format, 16), options)
    if provenance and file_format.comment:
        options["comment"] = provenance.note().encode("ascii")
    prepare(file_format)
    with _memory_file(file_format) as buffer:
        stored_picture(image, file_format).save(buffer, format=file_format.name, **options)
        buffer.seek(0)
        return [buffer.read()]


def _memory_file(file_format: Format) -> BinaryIO:
    """Where to encode to.

    While Pillow encodes JPEG it stops all other threads, and with them a GPU that they feed, unless
    it is for a file of the system.
    """
    if file_format.name == "JPEG" and sys.platform == "linux":
        return os.fdopen(os.memfd_create("dmsr"), "w+b")
    return io.BytesIO()


def prepared_image(
    image: Image, file_format: Format, metadata: bool, provenance: Provenance | None
) -> Image:
    """A picture with the metadata that its file is to have, the note in EXIF if that holds it."""
    if not metadata:
        image = dataclasses.replace(image, exif=None, xmp=None, dpi=None)
    note = provenance.note() if provenance and file_format.exif else None
    exif = result_exif(image, note)
    if file_format.name == "JPEG" and len(exif or b"") > _JPEG_EXIF_LIMIT:
        exif = note_block(note)
    return dataclasses.replace(image, exif=exif)


def save_options(image: Image, file_format: Format, quality: int) -> dict[str, Any]:
    """What Pillow is told besides the pixels: compression and metadata."""
    options: dict[str, Any] = {**_COMPRESSION.get(file_format.name, {})}
    if file_format.quality:
        options["quality"] = quality
    profile = kept_profile(image, file_format)
    if profile:
        options["icc_profile"] = profile
    if image.exif and file_format.exif:
        options["exif"] = image.exif
    xmp_fits = file_format.name != "JPEG" or len(image.xmp or b"") <= _JPEG_XMP_LIMIT
    if image.xmp and file_format.xmp and xmp_fits:
        options["xmp"] = image.xmp
    if image.dpi and file_format.dpi:
        options["dpi"] = image.dpi
    if file_format.name == "PNG" and "xmp" in options:
        options["pnginfo"] = _png_xmp(options.pop("xmp"))
    if file_format.name == "TIFF" and ("exif" in options or "xmp" in options):
        # Pillow fails on directories in EXIF next to compression.
        options["exif"] = main_directory(options.get("exif"), options.pop("xmp", None))
    return options


_COMPRESSION: dict[str, dict[str, Any]] = {
    # On restored photographs a quarter of the time of zlib's default level 6 at the same size;
    # levels 1 and 4 take 0.25 and 0.44 of the time at 1.15 and 1.02 of the size.
    "PNG": {"compress_type": zlib.Z_RLE},
    "JPEG": {"subsampling": 0},  # 4:4:4
    "AVIF": {"subsampling": "4:4:4"},
    "HEIF": {"chroma": 444},
    "TIFF": {"compression": "tiff_deflate"},
    "GIF": {"optimize": False},  # else a grey ramp becomes a palette of colours
    "JPEG2000": {"mct": 1},  # colour as brightness and differences, reversibly
}


def _png_xmp(xmp: bytes) -> PngInfo:
    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return chunks


def _name_of(target: str | Path | BinaryIO) -> str:
    if isinstance(target, (str, Path)):
        return display_name(target)
    name = str(getattr(target, "name", "to the stream"))
    return "standard output" if name == "<stdout>" else display_name(name)


def _format_for(target: str | Path | BinaryIO, name: str | None) -> Format:
    """The format of a name, else that of the target's suffix."""
    if name is not None:
        known = format_named(name)
        if known is None:
            names = ", ".join(known.suffixes[0][1:] for known in FORMATS.values())
            raise SettingsError(f"there is no picture format {name!a} to write; use one of {names}")
        return known
    if not isinstance(target, (str, Path)):
        raise SettingsError("a stream has no suffix to tell the format; name it, such as 'png'")
    suffix = Path(target).suffix
    known = format_of_suffix(suffix)
    if known is None or suffix.lower() not in WRITABLE_SUFFIXES:
        suffixes = ", ".join(sorted(WRITABLE_SUFFIXES))
        why = "holds black and white only" if known else "stands for no picture format"
        raise ImageError(
            f"cannot write {_name_of(target)}: the suffix {suffix!a} {why}; use one of {suffixes}"
        )
    return known


def _checked(image: Image | Samples) -> Image:
    """The picture as an Image of a shape and a type that can be written."""
    if not isinstance(image, Image):
        array = np.asarray(image)
        grey = array.ndim == 2
        pixels = np.broadcast_to(array[..., None], (*array.shape, 3)) if grey else array
        image = Image(pixels, grey=grey, depth=16 if array.dtype.type == np.uint16 else 8)
    pixels, alpha = image.pixels, image.alpha
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(f"the pixels must be height x width x 3, not of shape {pixels.shape}")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise ImageError(f"alpha has shape {alpha.shape}, the picture {pixels.shape[:2]}")
    for values in (pixels,) if alpha is None else (pixels, alpha):
        if not is_float(values) and values.dtype.type not in (np.uint8, np.uint16):
            raise ImageError(
                f"the values must be float in [0, 1], uint8 or uint16, not {values.dtype}"
            )
    return image


def _refuse_colour_in_grey(image: Image, target: str | Path | BinaryIO, name: str | None) -> None:
    suffix = f".{name}" if name or not isinstance(target, (str, Path)) else Path(target).suffix
    if suffix.lower() == ".pgm" and not image.grey:
        raise ImageError("a .pgm file holds grey only; use .ppm or .png")


def _write(
    parts: _Parts,
    target: str | Path | BinaryIO,
    replace: bool,
    before_rename: Callable[[Path], None] | None,
) -> None:
    if not isinstance(target, (str, Path)):
        for part in parts:
            target.write(part)
        target.flush()
        return
    writing = atomic_write(target, replace=replace, before_rename=before_rename)
    with writing as temporary, temporary.open("wb") as file:
        file.writelines(parts)
