"""More than 8 bit per channel, which Pillow cuts off: PNG, JPEG 2000, AVIF and PNM."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

import imagecodecs
import numpy as np
import PIL.Image
from PIL.PpmImagePlugin import PpmImageFile

from dmsr_cli.errors import ImageError
from dmsr_cli.images.picture import Samples
from dmsr_cli.images.raster import Raster

_HEADER_BYTES = 4096  # of a JPEG 2000 or AVIF that are searched for the bit depth

Decoder = Callable[[], Raster]


def deep_decoder(picture: PIL.Image.Image, file: BinaryIO) -> Decoder | None:
    """What reads all bits of a picture that Pillow has opened but not yet loaded.

    None if the header names no more than 8 bit per channel, or for another format.
    """
    find = {"PNG": _png, "JPEG2000": _jpeg2000, "AVIF": _avif, "PPM": _pnm}
    finder = find.get(picture.format or "")
    return finder(picture, file) if finder else None


def _png(picture: PIL.Image.Image, file: BinaryIO) -> Decoder | None:
    file.seek(24)  # of the header, which always comes first
    if file.read(1) != b"\x10":
        return None
    return _decoding(imagecodecs.png_decode, picture.size, file, 16)


def _jpeg2000(picture: PIL.Image.Image, file: BinaryIO) -> Decoder | None:
    head = _head(file)
    start = head.find(b"\xff\x4f\xff\x51")  # of the code stream, and of its size marker
    precision = head[start + 42 : start + 43] if start >= 0 else b""
    bits = precision[0] + 1 if precision else 8
    # Signed samples have the top bit set: they, and inks, are left to Pillow.
    if not 8 < bits <= 16 or picture.mode == "CMYK":
        return None
    return _decoding(imagecodecs.jpeg2k_decode, picture.size, file, bits)


def _avif(picture: PIL.Image.Image, file: BinaryIO) -> Decoder | None:
    head = _head(file)
    start = head.find(b"av1C")  # the configuration of the colours; opacity comes after
    flags = head[start + 6 : start + 7] if start >= 0 else b""
    if not flags or not flags[0] & 0x40:
        return None
    bits = 12 if flags[0] & 0x20 else 10
    return _decoding(_first_frame, picture.size, file, bits)


def _pnm(picture: PIL.Image.Image, file: BinaryIO) -> Decoder | None:
    if not isinstance(picture, PpmImageFile):
        return None
    codec, _, offset, arguments = picture.tile[0]
    if codec not in ("ppm", "ppm_plain") or not isinstance(arguments, tuple):
        return None
    mode, largest = arguments
    if not isinstance(largest, int) or largest <= 255:
        return None
    shape = (picture.height, picture.width, 3 if mode == "RGB" else 1)
    plain = codec == "ppm_plain"
    return lambda: Raster(_pnm_samples(file, offset, shape, plain), largest)


def _pnm_samples(file: BinaryIO, offset: int, shape: tuple[int, int, int], plain: bool) -> Samples:
    count = shape[0] * shape[1] * shape[2]
    file.seek(offset)
    if not plain:
        return np.frombuffer(file.read(count * 2), ">u2").reshape(shape)
    numbers = re.sub(rb"#[^\r\n]*[\r\n]?", b"", file.read()).split()
    return np.array(numbers[:count]).astype(np.int64).reshape(shape)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_HEADER_BYTES)


def _first_frame(content: bytes) -> Samples:
    frame: Samples = imagecodecs.avif_decode(content, index=0)
    return frame


def _decoding(
    decode: Callable[[bytes], Samples], size: tuple[int, int], file: BinaryIO, bits: int
) -> Decoder:
    """Reads the whole file with a decoder, once Pillow's copy of the pixels has gone."""

    def read() -> Raster:
        file.seek(0)
        samples = decode(file.read())
        if samples.ndim == 2:
            samples = samples[..., None]
        height, width, channels = samples.shape
        if (width, height) != size or channels > 4 or samples.dtype.type != np.uint16:
            raise ImageError("its header and its pixels do not agree; it is damaged")
        return Raster(samples, 2**bits - 1, has_alpha=channels in (2, 4))

    return read
