"""Read and write still pictures: orientation, colour profile, alpha, 8 and 16 bit.

What is read is float32 RGB in [0, 1]. What is written may also be uint8 or uint16, as large
results are kept; it is never turned into float as a whole, only a strip of rows at a time.
Pillow decodes 16-bit grey at full precision, but 16-bit colour only at 8 bit per channel.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms, ImageOps, features

from dmsr_cli.errors import DmsrError, ImageError, SettingsError
from dmsr_cli.files import atomic_write, display_name, reason_of

MAX_PIXELS = 500_000_000
"""Largest picture that is read, in pixels; more is taken for a decompression bomb."""

_SUFFIXES_OF = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
}
if "avif" in features.get_supported():  # Pillow's own builds have it since 11.3
    _SUFFIXES_OF["AVIF"] = (".avif",)
# Naming the formats keeps Pillow from trying others, some of which start external programs.
_READABLE_FORMATS = tuple(_SUFFIXES_OF)
_WRITABLE_FORMATS = {
    suffix: name for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP") for suffix in _SUFFIXES_OF[name]
}

READABLE_SUFFIXES = frozenset(suffix for group in _SUFFIXES_OF.values() for suffix in group)
"""Lower-case suffixes of the files that a folder scan takes for pictures."""
WRITABLE_SUFFIXES = frozenset(_WRITABLE_FORMATS)
"""Lower-case suffixes that `write_image` has a format for."""

LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Shares of red, green and blue in the luma of BT.601."""

_STRIP_PIXELS = 2**18
"""Pixels that are converted at a time: float copies of so many stay below 20 MB."""

_LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels; limits of the formats and libjpeg
_ALPHA_FORMATS = ("PNG", "WEBP", "TIFF")
_EXIF_FORMATS = ("PNG", "JPEG", "WEBP")
_EXIF_HEADER = b"Exif\x00\x00"
_JPEG_EXIF_LIMIT = 65_533  # bytes in one APP1 segment
_settings_lock = threading.Lock()  # Pillow's limit and Python's warnings are process-wide

FloatArray = NDArray[np.float32]
Samples = NDArray[Any]
"""float32 in [0, 1], uint8 (0 to 255) or uint16 (0 to 65535); the type says which range it is."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture in memory, with what a file says about it besides the pixels."""

    pixels: Samples
    """Height x width x 3, RGB, upright. What `read_image` gives is float32 in [0, 1]; a result may
    also be uint8 (0 to 255) or uint16 (0 to 65535)."""
    alpha: Samples | None = None
    """Opacity, height x width, of any of these types; None when the file has no transparency."""
    grey: bool = False
    """The file had a single colour channel; the three of `pixels` are then equal."""
    icc_profile: bytes | None = None
    """Colour profile of the pixels as the file has it; None means sRGB."""
    exif: bytes | None = None
    """EXIF block that starts with its `Exif` header, without the orientation."""
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical resolution for printing, pixels per inch."""
    format: str = ""
    """Format of the file it came from, in Pillow's words: PNG, JPEG, WEBP, ..."""

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])


def read_image(path: str | Path) -> Image:
    """Read one picture, the first frame of an animation, turned upright as its EXIF says.

    Palettes become RGB; CMYK becomes sRGB through its profile, or plainly where that fails;
    grey is replicated to three channels. 16-bit and float grey keep their precision.

    Raises:
        ImageError: the file is missing, unreadable, empty, damaged, cut short, not a picture, or
            has more than MAX_PIXELS pixels.
    """
    path = Path(path)
    name = display_name(path)
    try:
        _check_source(path)
        with path.open("rb") as file:
            return _decode(file)
    except ImageError as error:
        raise ImageError(f"cannot read {name}: {error}") from error
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {name}: no such file") from error
    except PIL.UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not a picture that can be read; convert it to PNG or JPEG first"
        ) from error
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"cannot read {name}: it has more than {MAX_PIXELS} pixels; split it first"
        ) from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: it does not fit into memory") from error
    except Exception as error:  # decoders raise about every class there is
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"cannot read {name}: {reason_of(error)}") from error
        raise ImageError(
            f"cannot read {name}: it is damaged or cut short ({reason_of(error)})"
        ) from error


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


def resize_alpha(alpha: Samples, scale: int) -> Samples:
    """Enlarge an opacity plane, height x width, by a whole factor with bicubic.

    The result is float32, clipped to [0, 1], or uint8 or uint16 like `alpha`; a constant plane
    stays exactly constant.

    Raises:
        ImageError: a value is not finite.
    """
    height, width = alpha.shape
    plane = PIL.Image.fromarray(_as_float(alpha))
    is_float = _is_float(alpha)
    resized = np.empty((height * scale, width * scale), np.float32 if is_float else alpha.dtype)
    for rows in _strips(height, width * scale * scale):
        box = (0, rows.start, width, rows.stop)  # Pillow sees beyond it: strips leave no seam
        size = (width * scale, (rows.stop - rows.start) * scale)
        # Pillow sums in double precision: weights that add up to 1 leave a float32 constant alone.
        strip = np.asarray(plane.resize(size, PIL.Image.Resampling.BICUBIC, box)).clip(0, 1)
        if not is_float:
            strip = np.rint(strip * np.iinfo(alpha.dtype).max)
        resized[rows.start * scale : rows.stop * scale] = strip
    return resized


def largest_side(suffix: str) -> int | None:
    """Pixels that a side may have in the format that a suffix stands for; None if any number."""
    return _LARGEST_SIDE.get(_WRITABLE_FORMATS.get(suffix.lower(), ""))


def find_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """The pictures of a folder, by suffix, sorted; hidden files and folders are left out.

    Raises:
        ImageError: the folder, or one inside it, cannot be listed.
    """
    found: list[Path] = []
    try:
        for parent, folders, files in os.walk(folder, onerror=_raise):
            found += [
                Path(parent, name)
                for name in files
                if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES
            ]
            folders[:] = [name for name in folders if recursive and not name.startswith(".")]
    except OSError as error:
        name = display_name(error.filename or folder)
        raise ImageError(f"cannot list the folder {name}: {reason_of(error)}") from error
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _check_source(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("it is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("it is not a regular file")
    if status.st_size == 0:
        raise ImageError("the file is empty")


@contextlib.contextmanager
def _pillow_settings() -> Iterator[None]:
    """Our MAX_PIXELS, as an error; no warnings about odd metadata; one thread at a time."""
    with _settings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        previous = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = previous


def _decode(file: BinaryIO) -> Image:
    with _pillow_settings():
        picture = PIL.Image.open(file, formats=_READABLE_FORMATS)
    with picture:
        # Some decoders check the size once more. Others run side by side, without the lock.
        large = picture.width * picture.height > (PIL.Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
        with _pillow_settings() if large else contextlib.nullcontext():
            picture.load()  # all of it: a file that is cut short fails here
        return _from_picture(picture)


def _from_picture(picture: PIL.Image.Image) -> Image:
    file_format = "JPEG" if picture.format == "MPO" else picture.format or ""
    _turn_upright(picture)
    info = picture.info
    icc_profile = info.get("icc_profile") or None
    if picture.mode == "CMYK":
        picture, icc_profile = _cmyk_to_rgb(picture, icc_profile), None
    pixels, alpha, grey = _planes(picture)
    return Image(
        pixels, alpha, grey, icc_profile, _exif_block(info), _resolution(info), file_format
    )


def _turn_upright(picture: PIL.Image.Image) -> None:
    try:
        with _pillow_settings():
            ImageOps.exif_transpose(picture, in_place=True)
    except Exception:  # as many kinds as there are ways to damage EXIF; the pixels are still good
        picture.info.pop("exif", None)


def _exif_block(info: dict[Any, Any]) -> bytes | None:
    block = info.get("exif")
    if not isinstance(block, bytes) or not block:
        return None
    return block if block.startswith(_EXIF_HEADER) else _EXIF_HEADER + block


def _resolution(info: dict[Any, Any]) -> tuple[float, float] | None:
    """Pixels per inch, unless they are the nonsense that stands for "not known"."""
    try:
        horizontal, vertical = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    known = 1 < horizontal < 65_536 and 1 < vertical < 65_536
    return (horizontal, vertical) if known else None


def _cmyk_to_rgb(picture: PIL.Image.Image, icc_profile: bytes | None) -> PIL.Image.Image:
    if icc_profile and icc_profile[16:20] == b"CMYK":
        # A damaged profile, or a Pillow without littlecms: the plain conversion has to do.
        with contextlib.suppress(ImageCms.PyCMSError, ImportError, OSError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
            if converted is not None:
                return converted
    return picture.convert("RGB")


def _planes(picture: PIL.Image.Image) -> tuple[FloatArray, FloatArray | None, bool]:
    """Pixels, alpha and whether the picture is grey."""
    mode = picture.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        values, alpha = _deep_grey(picture)
        return np.repeat(values[..., None], 3, axis=2), alpha, True
    grey = mode in ("1", "L", "LA", "La")
    transparent = picture.has_transparency_data
    picture = picture.convert(("L" if grey else "RGB") + ("A" if transparent else ""))
    values = np.array(picture, dtype=np.float32)
    values /= 255
    if values.ndim == 2:
        values = values[..., None]
    alpha = np.ascontiguousarray(values[..., -1]) if transparent else None
    colour = values[..., :1] if grey else values[..., :3]
    pixels = np.repeat(colour, 3, axis=2) if grey else np.ascontiguousarray(colour)
    return pixels, alpha, grey


def _deep_grey(picture: PIL.Image.Image) -> tuple[FloatArray, FloatArray | None]:
    """Grey of more than 8 bit. The range follows from the type, never from the brightest pixel."""
    stored = np.asarray(picture)
    white = 1 if picture.mode == "F" else 65_535
    low, high = stored.min(), stored.max()
    if not (low >= 0 and high <= white):  # also true of NaN
        raise ImageError(
            f"its values, {low} to {high}, lie outside 0 to {white}; convert it to 8 or 16 bit"
        )
    transparent = picture.info.get("transparency")
    alpha = (stored != transparent).astype(np.float32) if isinstance(transparent, int) else None
    return stored.astype(np.float32) / np.float32(white), alpha


def _format_for(path: Path) -> str:
    try:
        return _WRITABLE_FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(sorted(WRITABLE_SUFFIXES))
        raise ImageError(
            f"no picture format has the suffix {path.suffix!a}; use one of {known}"
        ) from None


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
        if not _is_float(values) and values.dtype.type not in (np.uint8, np.uint16):
            raise ImageError(
                f"the values must be float in [0, 1], uint8 or uint16, not {values.dtype}"
            )
    return image


def _is_float(values: Samples) -> bool:
    return np.issubdtype(values.dtype, np.floating)


def _as_float(values: Samples) -> FloatArray:
    """Float32 in [0, 1], clipped; ImageError if a value is not finite."""
    if not np.isfinite(values).all():
        raise ImageError("the picture has values that are not finite numbers")
    white = 1 if _is_float(values) else np.iinfo(values.dtype).max
    as_float: FloatArray = values.astype(np.float32, copy=False) / np.float32(white)
    return as_float.clip(0, 1)


def _as_bytes(values: Samples) -> NDArray[np.uint8]:
    """The nearest of the 256 levels; ImageError if a value is not finite."""
    if values.dtype.type == np.uint8:
        return values
    if values.dtype.type == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.rint(_as_float(values) * 255).astype(np.uint8)


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows from top to bottom, as many at a time as are about `_STRIP_PIXELS` pixels."""
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _encode(image: Image, file_format: str, quality: int) -> memoryview:
    """The bytes of the file. Encoding in memory leaves the disk with plain writes only."""
    largest = _LARGEST_SIDE.get(file_format)
    if largest and max(image.height, image.width) > largest:
        raise ImageError(
            f"{image.width} x {image.height} pixels are too many, {file_format} allows "
            f"{largest} on a side; use .png or .tif"
        )
    single_channel = image.grey and file_format != "WEBP"
    with_alpha = image.alpha is not None and file_format in _ALPHA_FORMATS
    mode = ("L" if single_channel else "RGB") + ("A" if with_alpha else "")
    picture = PIL.Image.new(mode, (image.width, image.height), None)
    for rows in _strips(image.height, image.width):
        strip = _stored_strip(image, rows, single_channel, with_alpha)
        picture.paste(PIL.Image.fromarray(strip), (0, rows.start))
    buffer = io.BytesIO()
    options = _save_options(image, file_format, single_channel, quality)
    picture.save(buffer, format=file_format, **options)
    return buffer.getbuffer()


def _stored_strip(
    image: Image, rows: slice, single_channel: bool, with_alpha: bool
) -> NDArray[np.uint8]:
    """Some rows as the file has them: rows x width, or rows x width x channels."""
    pixels, alpha = image.pixels[rows], None if image.alpha is None else image.alpha[rows]
    if alpha is not None and not with_alpha:
        opacity = _as_float(alpha)[..., None]
        pixels = _as_float(pixels) * opacity + (1 - opacity)
    if image.grey:
        luma = (_as_float(pixels) @ LUMA_WEIGHTS)[..., None]
        pixels = luma if single_channel else np.repeat(luma, 3, axis=2)
    stored = _as_bytes(pixels)
    if alpha is not None and with_alpha:
        stored = np.concatenate([stored, _as_bytes(alpha)[..., None]], axis=2)
    return np.ascontiguousarray(stored[..., 0] if stored.shape[2] == 1 else stored)


def _save_options(
    image: Image, file_format: str, single_channel: bool, quality: int
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if file_format == "PNG":
        # On restored photographs a quarter of the time of zlib's default level 6 at the same size;
        # levels 1 and 4 take 0.25 and 0.44 of the time at 1.15 and 1.02 of the size.
        options["compress_type"] = zlib.Z_RLE
    if file_format in ("JPEG", "WEBP"):
        options["quality"] = quality
    if file_format == "JPEG":
        options["subsampling"] = 0  # 4:4:4
    if file_format == "TIFF":
        options["compression"] = "tiff_deflate"
    colour_space = b"GRAY" if single_channel else b"RGB "
    if image.icc_profile and image.icc_profile[16:20] == colour_space:
        options["icc_profile"] = image.icc_profile
    fits = file_format != "JPEG" or len(image.exif or b"") <= _JPEG_EXIF_LIMIT
    if image.exif and file_format in _EXIF_FORMATS and fits:
        options["exif"] = image.exif
    if image.dpi:
        options["dpi"] = image.dpi
    return options
