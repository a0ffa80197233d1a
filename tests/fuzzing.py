"""One small file of each kind that is read, and seeded ways to damage them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import PIL.Image
import tifffile

from dmsr_cli.images import FORMATS
from dmsr_cli.images.formats import prepare
from pictures import SRGB, noise

SIDE = 24
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_HEADER = 600  # bytes in which most of what a decoder is told stands
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'

Mutator = Callable[[np.random.Generator, bytearray, bytes], bytearray]


def samples() -> dict[str, bytes]:
    """A file of each kind, by its name; the same in every run."""
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "Maker", {0x9286: b"ASCII\0\0\0comment"}
    described = {"exif": exif.tobytes(), "icc_profile": SRGB}
    flat = noise(SIDE, SIDE - 3, 3)
    deep = noise(SIDE, SIDE - 3, 3).astype(np.uint16) * 257
    opaque = np.dstack([flat, noise(SIDE, SIDE - 3, 1, seed=1)])
    found = {
        "rgb.png": _saved("PNG", flat, **described),
        "alpha.png": _saved("PNG", opaque),
        "deep.png": imagecodecs.png_encode(deep),
        "moving.png": _moving("PNG"),
        "baseline.jpg": _saved("JPEG", flat, xmp=_XMP, **described),
        "progressive.jpg": _saved("JPEG", flat, progressive=True),
        "inks.jpg": _saved("JPEG", opaque, mode="CMYK"),
        "lossy.webp": _saved("WEBP", flat, xmp=_XMP, **described),
        "lossless.webp": _saved("WEBP", opaque, lossless=True),
        "moving.webp": _moving("WEBP"),
        "still.gif": _saved("GIF", flat),
        "moving.gif": _moving("GIF"),
        "plain.bmp": _saved("BMP", flat),
        "plain.ppm": _saved("PPM", flat),
        "deep.ppm": b"P6 21 24 65535\n" + deep.tobytes(),
        "bits.pbm": _saved("PPM", flat, mode="1"),
        "plain.jp2": _saved("JPEG2000", flat),
        "deep.jp2": imagecodecs.jpeg2k_encode(deep, level=0),
        "raw.tif": _saved("TIFF", flat, icc_profile=SRGB, tiffinfo={700: _XMP, 274: 6}),
        "lzw.tif": _saved("TIFF", flat, compression="tiff_lzw"),
        "jpeg.tif": _saved("TIFF", flat, compression="jpeg"),
        "deep.tif": _tiff(deep, compression="lzw", predictor=True, rowsperstrip=7),
        "tiled.tif": _tiff(deep, compression="zlib", tile=(16, 16), bigtiff=True),
        "pages.tif": _tiff(np.stack([flat, flat[::-1], flat]), compression="zlib"),
    }
    if "AVIF" in FORMATS:
        found["plain.avif"] = _saved("AVIF", flat, **described)
        found["moving.avif"] = _moving("AVIF")
        found["deep.avif"] = bytes(imagecodecs.avif_encode(deep >> 6, bitspersample=10))
    if "HEIF" in FORMATS:
        prepare(FORMATS["HEIF"])
        found["plain.heic"] = _saved("HEIF", flat, **described)
    return found


def mutants(content: bytes, other: bytes, count: int, seed: int) -> list[bytes]:
    """`count` damaged copies; pieces of `other`, of another format, are put into some.

    One in four has two kinds of damage. Half of the damaged PNG have checksums that are right.
    """
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        changed = _MUTATORS[number % len(_MUTATORS)](random, bytearray(content), other)
        if random.random() < 0.25:
            second = _MUTATORS[int(random.integers(len(_MUTATORS)))]
            changed = second(random, changed, other)
        if random.random() < 0.5:
            changed = _with_right_checksums(changed)
        found.append(bytes(changed))
    return found


def _saved(format_name: str, values: np.ndarray, mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    picture = PIL.Image.fromarray(values)
    if mode == "CMYK":
        picture = PIL.Image.frombytes("CMYK", picture.size, values.tobytes())
    elif mode:
        picture = picture.convert(mode)
    picture.save(file, format=format_name, **options)
    return file.getvalue()


def _moving(format_name: str) -> bytes:
    frames = [PIL.Image.fromarray(noise(SIDE, SIDE - 3, 3, seed=seed)) for seed in range(3)]
    file = io.BytesIO()
    frames[0].save(
        file, format=format_name, save_all=True, append_images=frames[1:], duration=40, loop=0
    )
    return file.getvalue()


def _tiff(values: np.ndarray, bigtiff: bool = False, **options) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=bigtiff) as writer:
        for page in values if values.ndim == 4 else [values]:
            writer.write(page, photometric="rgb", metadata=None, **options)
    return file.getvalue()


def _cut(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    del content[int(random.integers(len(content))) :]
    return content


def _flip_bits(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    for place in random.integers(0, len(content), int(random.integers(1, 12))):
        content[place] ^= 1 << int(random.integers(8))
    return content


def _edit_header(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    end = min(len(content), _HEADER)
    for place in random.integers(0, end, int(random.integers(1, 6))):
        content[place] = int(random.integers(256))
    return content


def _set_extremes(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    """Numbers of 1, 2 or 4 bytes, which may be sizes, counts or offsets, to the least and most."""
    for _ in range(int(random.integers(1, 4))):
        width = int(random.choice([1, 2, 4]))
        end = min(len(content), _HEADER if random.random() < 0.7 else len(content))
        place = int(random.integers(max(1, end - width)))
        value = int(random.choice(_EXTREMES)) & (256**width - 1)
        order = "big" if random.random() < 0.5 else "little"
        content[place : place + width] = value.to_bytes(width, order)
    return content


def _repeat_a_part(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    start, end = _part(random, content)
    content[end:end] = content[start:end] * int(random.integers(1, 30))
    return content


def _leave_out_a_part(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    start, end = _part(random, content)
    del content[start:end]
    return content


def _splice(random: np.random.Generator, content: bytearray, other: bytes) -> bytearray:
    """The start of one file and the end of another, or a piece of it in the midst."""
    place = int(random.integers(len(content)))
    start = int(random.integers(len(other)))
    if random.random() < 0.5:
        return content[:place] + other[start:]
    content[place:place] = other[start : start + int(random.integers(1, 200))]
    return content


_MUTATORS: tuple[Mutator, ...] = (
    *(_cut, _flip_bits, _edit_header, _set_extremes),
    *(_repeat_a_part, _leave_out_a_part, _splice),
)


def _part(random: np.random.Generator, content: bytearray) -> tuple[int, int]:
    """Start and end of one of the parts that the format has, or of any bytes."""
    found = _png_chunks(content) or _riff_chunks(content) or _boxes(content)
    if found and random.random() < 0.8:
        return found[int(random.integers(len(found)))]
    start = int(random.integers(max(1, len(content))))
    return start, min(len(content), start + int(random.integers(1, 80)))


def _png_chunks(content: bytearray) -> list[tuple[int, int]]:
    if content[1:4] != b"PNG":
        return []
    return _walk(content, 8, lambda place: 12 + _number(content, place, ">I"))


def _riff_chunks(content: bytearray) -> list[tuple[int, int]]:
    if content[:4] != b"RIFF":
        return []
    return _walk(content, 12, lambda place: 8 + (_number(content, place + 4, "<I") + 1) // 2 * 2)


def _boxes(content: bytearray) -> list[tuple[int, int]]:
    """Of AVIF, HEIF and JPEG 2000: those at the top."""
    if content[4:8] not in (b"ftyp", b"jP  "):
        return []
    return _walk(content, 0, lambda place: max(8, _number(content, place, ">I")))


def _walk(content: bytearray, place: int, size_at: Callable[[int], int]) -> list[tuple[int, int]]:
    found = []
    while place + 8 <= len(content):
        end = min(len(content), place + size_at(place))
        found.append((place, end))
        place = end
    return found


def _number(content: bytearray, place: int, form: str) -> int:
    return int(struct.unpack_from(form, content, place)[0])


def _with_right_checksums(content: bytearray) -> bytearray:
    """Of a PNG; without them decoders look at no more than the first damage."""
    for start, end in _png_chunks(content):
        if end - start >= 12:
            content[end - 4 : end] = struct.pack(">I", zlib.crc32(content[start + 4 : end - 4]))
    return content
