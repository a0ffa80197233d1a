"""Writes still pictures, whole or not at all."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.errors import DmsrError, ImageError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of
from dmsr_cli.images.formats import WRITABLE_SUFFIXES, Format, format_of_suffix
from dmsr_cli.images.picture import LUMA_WEIGHTS, Image, Samples
from dmsr_cli.images.planes import as_bytes, as_float, is_float, strips

_JPEG_EXIF_LIMIT = 65_533  # bytes in one APP1 segment


def write_image(
    image: Image | NDArray[np.floating[Any] | np.uint8 | np.uint16],
    path: str | Path,
    *,
    quality: int = 95,
) -> None:
    """Write a picture at 8 bit per channel, in the format of the suffix; whole or not at all.

    An array is height x width x 3, or height x width for grey: float in [0, 1], where values
    outside are clipped, uint8, or uint16, which is rounded to 8 bit. A grey picture is stored as
    one channel, the BT.601 luma (WebP has no such form and gets three). Alpha is kept in PNG, WebP
    and TIFF; JPEG and BMP cannot hold it and get the picture over white. `quality` (1 to 100) is
    that of JPEG, always without chroma subsampling, and of WebP. The colour profile goes along if
    it fits the stored channels.

    Raises:
        ImageError: no format for the suffix, a picture too large for the format, values that are
            not finite, an array of another shape or type, or a file that cannot be written.
        SettingsError: `quality` is out of range.
    """
    path = Path(path)
    if not 1 <= quality <= 100:
        raise SettingsError(f"quality must be from 1 to 100, not {quality}")
    try:
        encoded = _encode(_checked(image), _format_for(path), quality)
    except ImageError as error:
        raise ImageError(f"cannot write {display_name(path)}: {error}") from error
    except Exception as error:  # encoders, too, raise what they like
        raise ImageError(f"cannot write {display_name(path)}: {reason_of(error)}") from error
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded)
    except DmsrError as error:
        raise ImageError(str(error)) from error


def _format_for(path: Path) -> Format:
    known = format_of_suffix(path.suffix)
    if known is None or not known.is_written:
        suffixes = ", ".join(sorted(WRITABLE_SUFFIXES))
        raise ImageError(f"no picture format has the suffix {path.suffix!a}; use one of {suffixes}")
    return known


def _checked(image: Image | Samples) -> Image:
    """The picture as an Image of a shape and a type that can be written."""
    if not isinstance(image, Image):
        array = np.asarray(image)
        grey = array.ndim == 2
        pixels = np.broadcast_to(array[..., None], (*array.shape, 3)) if grey else array
        image = Image(pixels, grey=grey)
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


def _encode(image: Image, file_format: Format, quality: int) -> memoryview:
    """The bytes of the file. Encoding in memory leaves the disk with plain writes only."""
    largest = file_format.largest_side
    if largest and max(image.height, image.width) > largest:
        raise ImageError(
            f"{image.width} x {image.height} pixels are too many, {file_format.name} allows "
            f"{largest} on a side; use .png or .tif"
        )
    picture = stored_picture(image, file_format)
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format.name, **save_options(image, file_format, quality))
    return buffer.getbuffer()


def stored_picture(image: Image, file_format: Format) -> PIL.Image.Image:
    """A picture in the mode in which a file of 8 bit holds it."""
    single_channel = image.grey and file_format.grey
    with_alpha = image.alpha is not None and file_format.alpha
    mode = ("L" if single_channel else "RGB") + ("A" if with_alpha else "")
    picture = PIL.Image.new(mode, (image.width, image.height), None)
    for rows in strips(image.height, image.width):
        strip = _stored_strip(image, rows, single_channel, with_alpha)
        picture.paste(PIL.Image.fromarray(strip), (0, rows.start))
    return picture


def _stored_strip(
    image: Image, rows: slice, single_channel: bool, with_alpha: bool
) -> NDArray[np.uint8]:
    """Some rows as the file has them: rows x width, or rows x width x channels."""
    pixels, alpha = image.pixels[rows], None if image.alpha is None else image.alpha[rows]
    if alpha is not None and not with_alpha:
        opacity = as_float(alpha)[..., None]
        pixels = as_float(pixels) * opacity + (1 - opacity)
    if image.grey:
        luma = (as_float(pixels) @ LUMA_WEIGHTS)[..., None]
        pixels = luma if single_channel else np.repeat(luma, 3, axis=2)
    stored = as_bytes(pixels)
    if alpha is not None and with_alpha:
        stored = np.concatenate([stored, as_bytes(alpha)[..., None]], axis=2)
    return np.ascontiguousarray(stored[..., 0] if stored.shape[2] == 1 else stored)


def save_options(image: Image, file_format: Format, quality: int) -> dict[str, Any]:
    """What Pillow is told besides the pixels: compression and metadata."""
    options: dict[str, Any] = {}
    if file_format.name == "PNG":
        # On restored photographs a quarter of the time of zlib's default level 6 at the same size;
        # levels 1 and 4 take 0.25 and 0.44 of the time at 1.15 and 1.02 of the size.
        options["compress_type"] = zlib.Z_RLE
    if file_format.quality:
        options["quality"] = quality
    if file_format.name == "JPEG":
        options["subsampling"] = 0  # 4:4:4
    if file_format.name == "TIFF":
        options["compression"] = "tiff_deflate"
    colour_space = b"GRAY" if image.grey and file_format.grey else b"RGB "
    if image.icc_profile and image.icc_profile[16:20] == colour_space:
        options["icc_profile"] = image.icc_profile
    fits = file_format.name != "JPEG" or len(image.exif or b"") <= _JPEG_EXIF_LIMIT
    if image.exif and file_format.exif and fits:
        options["exif"] = image.exif
    if image.dpi:
        options["dpi"] = image.dpi
    return options
