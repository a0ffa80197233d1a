"""Writing 16 bit per channel: every level exactly, with all that a file says besides."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from dmsr_cli.images import Image, planes, tiff_writing, write_image
from pictures import SRGB, smooth
from written_pictures import LINEAR, XMP, check_exif, exif_block, samples_of

SUFFIXES = [".png", ".tif"]


def words(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65_536, shape, dtype=np.uint16)


def stored(path: Path) -> np.ndarray:
    return samples_of(path.read_bytes())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("kind", ["uint16", ">u2", "float32", "float64"])
@pytest.mark.parametrize("strip_pixels", [100, 2**18])
def test_every_level_comes_back(
    tmp_path, monkeypatch, suffix, grey, transparent, kind, strip_pixels
):
    monkeypatch.setattr(planes, "STRIP_PIXELS", strip_pixels)
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    colour = np.stack([levels] * 3 if grey else [levels, levels[::-1], levels.T], axis=2)
    alpha = words(256, 256, seed=1)
    expected = colour[..., :1] if grey else colour
    expected = np.concatenate([expected, alpha[..., None]], axis=2) if transparent else expected

    def of_kind(values: np.ndarray) -> np.ndarray:
        return values.astype(kind) / (65_535 if "float" in kind else 1)

    pixels = of_kind(colour).astype(kind)
    image = Image(pixels, of_kind(alpha).astype(kind) if transparent else None, grey, depth=16)
    before = pixels.copy()
    write_image(image, tmp_path / f"a{suffix}")
    assert np.array_equal(stored(tmp_path / f"a{suffix}"), expected.squeeze())
    assert stored(tmp_path / f"a{suffix}").dtype == np.uint16
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (13, 7)])
def test_bare_arrays(tmp_path, suffix, size):
    path = tmp_path / f"a{suffix}"
    for array in (words(*size, 3), words(*size), words(2 * size[0], size[1], 3)[::2]):
        write_image(array, path)
        assert np.array_equal(stored(path).reshape(array.shape), array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rounding_is_to_the_nearest_and_values_are_clipped(tmp_path, suffix):
    values = np.array([[-1, 0.4 / 65_535, 0.6 / 65_535, 0.5, 65_534.6 / 65_535, 1.5]])
    write_image(Image(np.repeat(values[..., None], 3, 2), depth=16), tmp_path / f"a{suffix}")
    assert stored(tmp_path / f"a{suffix}")[0, :, 1].tolist() == [0, 0, 1, 32_768, 65_535, 65_535]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_depth_decides(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for pixels in (smooth(), words(40, 56, 3), words(40, 56, 3).astype(np.uint8)):
        write_image(Image(pixels), path)
        assert stored(path).dtype == np.uint8
        write_image(Image(pixels, depth=16), path)
        assert stored(path).dtype == np.uint16
    write_image(smooth(), path)
    assert stored(path).dtype == np.uint8


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_eight_bit_becomes_the_same_share_of_sixteen(tmp_path, suffix):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.stack([levels, levels.T, levels], axis=2)
    write_image(Image(pixels, levels, depth=16), tmp_path / f"a{suffix}")
    expected = np.concatenate([pixels, levels[..., None]], axis=2) * np.uint16(257)
    assert np.array_equal(stored(tmp_path / f"a{suffix}"), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".gif", ".jp2", ".avif", ".ppm"])
def test_other_formats_round_to_eight(tmp_path, suffix):
    write_image(np.full((16, 16, 3), 0x80C0, np.uint16), tmp_path / f"a{suffix}")
    with PIL.Image.open(tmp_path / f"a{suffix}") as picture:
        assert abs(picture.convert("RGB").getpixel((8, 8))[1] - 0x80) <= 2


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_metadata_of_both_depths(tmp_path, suffix, depth, grey, transparent):
    pixels, alpha = words(12, 10, 3), words(12, 10) if transparent else None
    image = Image(
        pixels, alpha, grey, None if grey else SRGB, exif_block(), (300, 200), xmp=XMP, depth=depth
    )
    path = tmp_path / f"a{suffix}"
    write_image(image, path)
    if suffix == ".tif" and depth == 16 and grey and transparent:
        # Pillow knows no such picture; it does know the same file of one channel less.
        with tifffile.TiffFile(path) as file:
            tags = file.pages.first.tags
            assert tags[700].value == XMP
            assert tags[34_665].value["ExposureTime"] in (0.01, (1, 100))
            assert tags[282].value == (300, 1)
        return
    with PIL.Image.open(path) as picture:
        assert picture.info.get("icc_profile") == (None if grey else SRGB)
        assert picture.info["dpi"] == pytest.approx((300, 200), abs=0.05)
        assert picture.info["xmp"] == XMP
        check_exif(picture.getexif(), 10, is_tiff=suffix == ".tif")


def test_big_tiff_leads_to_its_directories(tmp_path, monkeypatch):
    image = Image(words(12, 10, 3), exif=exif_block(), depth=16)
    monkeypatch.setattr(tiff_writing, "_CLASSIC_BYTES", 100)
    write_image(image, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), image.pixels)
        assert file.pages.first.tags[34_853].value["GPSLatitudeRef"] == "N"
    with PIL.Image.open(tmp_path / "a.tif") as picture:
        check_exif(picture.getexif(), 10, is_tiff=True)


def test_eight_and_sixteen_bit_png_say_the_same(tmp_path):
    image = Image(smooth(), exif=exif_block(), icc_profile=SRGB, xmp=XMP, dpi=(300, 200))
    chunks = []
    for depth in (8, 16):
        stream = io.BytesIO()
        write_image(dataclasses.replace(image, depth=depth), stream, format="png")
        chunks.append(metadata_chunks(stream.getvalue()))
    assert chunks[0] == chunks[1]
    assert set(chunks[1]) == {b"iCCP", b"eXIf", b"iTXt", b"pHYs"}


def metadata_chunks(content: bytes) -> dict[bytes, bytes]:
    """What stands between the header and the pixels, as it has to."""
    found, position = {}, 8
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        found[content[position + 4 : position + 8]] = content[position + 8 : position + 8 + length]
        position += 12 + length
    assert position == len(content)
    first, *metadata = found
    assert first == b"IHDR"
    assert metadata[-2:] == [b"IDAT", b"IEND"]
    return {kind: found[kind] for kind in metadata[:-2]}


def test_grey_with_a_profile_of_colours_keeps_its_precision(tmp_path):
    """The levels follow the profile's curve, in 16 bit: no two of them fall together for it."""
    levels = np.arange(20_000, 60_000, dtype=np.uint16).reshape(200, 200)
    pixels = np.repeat(levels[..., None], 3, axis=2)
    for suffix in SUFFIXES:
        write_image(Image(pixels, grey=True, icc_profile=LINEAR, depth=16), tmp_path / f"a{suffix}")
        found = stored(tmp_path / f"a{suffix}").astype(float)
        light = levels / 65_535
        expected = (1.055 * light ** (1 / 2.4) - 0.055) * 65_535
        assert np.abs(found - expected).max() < 30  # the 8-bit level next to it is 257 away
        write_image(Image(pixels, grey=True, icc_profile=SRGB, depth=16), tmp_path / f"b{suffix}")
        assert np.array_equal(stored(tmp_path / f"b{suffix}"), levels)
