"""What the table of formats promises of written files is what they keep, and no more."""

import importlib.util

import numpy as np
import PIL.Image
import pytest

from dmsr_cli.images import FORMATS, WRITABLE_SUFFIXES, Image, format_named
from dmsr_cli.images.colour import to_srgb
from pictures import SRGB, bytes_of, noise, smooth
from written_pictures import (
    LINEAR,
    LINEAR_GREY,
    XMP,
    check_exif,
    exif_block,
    opened,
    samples_of,
    written,
)

every_format = pytest.mark.parametrize("name", FORMATS)


@every_format
def test_metadata(name):
    known = FORMATS[name]
    image = Image(smooth(), None, False, SRGB, exif_block(), (300, 200), xmp=XMP)
    with opened(written(image, name)) as picture:
        assert picture.format == name
        assert picture.info.get("icc_profile") == (SRGB if known.icc else None)
        if known.exif:
            check_exif(picture.getexif(), 56, is_tiff=name == "TIFF")
        else:
            assert not picture.getexif()
        assert picture.info.get("xmp") == (XMP if known.xmp else None)
        expected = pytest.approx((300, 200), abs=0.05) if known.dpi else None
        assert picture.info.get("dpi") == expected


@every_format
def test_channels(name):
    known = FORMATS[name]
    for grey in (False, True):
        for alpha in (None, (smooth()[..., 0] > 0.5).astype(np.float32)):
            with opened(written(Image(smooth(), alpha, grey), name)) as picture:
                picture.load()
                kept = alpha is not None and known.alpha
                assert picture.has_transparency_data == kept
                if known.grey == grey or not kept:
                    assert (picture.mode[0] == "L") == (grey and known.grey)
                if kept:
                    found = np.asarray(picture.convert("RGBA"))[..., 3]
                    assert np.abs(found - alpha * 255.0).max() <= 2


@every_format
def test_colours(name):
    """Lossless formats give every value back; in all the colours are close."""
    with opened(written(Image(smooth()), name)) as picture:
        found = np.asarray(picture.convert("RGB"), float)
    difference = np.abs(found - bytes_of(Image(smooth())))
    if name in ("PNG", "TIFF", "BMP", "PPM", "JPEG2000"):
        assert difference.max() == 0
    else:
        assert difference.mean() < (5 if name == "GIF" else 2)
    drift = np.abs(found.mean((0, 1)) - bytes_of(Image(smooth())).mean((0, 1))).max()
    assert drift < (1 if name == "AVIF" else 0.3)  # libavif's conversion is off by 0.9, always


@every_format
def test_depth(name):
    levels = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56) * 20
    content = written(Image(np.stack([levels] * 3, 2), depth=16), name)
    if name in ("PNG", "TIFF"):
        found = samples_of(content)
    else:
        with opened(content) as picture:
            found = np.asarray(picture)
    assert (found.dtype == np.uint16) == FORMATS[name].deep


@every_format
def test_quality(name):
    picture = Image(noise(64, 64, 3))
    low, high = written(picture, name, quality=50), written(picture, name, quality=95)
    assert (len(low) < 0.8 * len(high)) == FORMATS[name].quality
    assert FORMATS[name].quality or low == high


@every_format
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1)])
def test_any_size(name, size):
    for alpha in (None, np.full(size, 0.7, np.float32)):
        with opened(written(Image(np.full((*size, 3), 0.6, np.float32), alpha), name)) as picture:
            picture.load()
            assert picture.size == size[::-1]


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "GIF", "AVIF", "PNG"])
def test_the_largest_side_can_be_read(name):
    side = FORMATS[name].largest_side
    with opened(written(Image(np.zeros((1, side, 3), np.uint8)), name)) as picture:
        assert picture.size == (side, 1)
        picture.load()


def test_png_of_sixteen_bit_has_its_largest_side_too():
    side = FORMATS["PNG"].largest_side
    content = written(Image(np.zeros((1, side, 3), np.uint16), depth=16), "PNG")
    assert int.from_bytes(content[16:20], "big") == side


def test_chroma_is_whole():
    """A checkerboard of red and blue survives; with shared chroma it would be one purple."""
    red = np.indices((32, 32)).sum(0) % 2 == 0
    pixels = np.where(red[..., None], np.float32([1, 0, 0]), np.float32([0, 0, 1]))
    for name in ("JPEG", "AVIF", "HEIF"):
        if name in FORMATS:
            with opened(written(Image(pixels), name)) as picture:
                found = np.asarray(picture.convert("RGB"), float)
            assert found[red][:, 0].mean() - found[~red][:, 0].mean() > 200


def test_heif_is_there_with_its_package():
    assert ("HEIF" in FORMATS) == bool(importlib.util.find_spec("pillow_heif"))
    assert (".heic" in WRITABLE_SUFFIXES) == ("HEIF" in FORMATS)


def test_names():
    for known in FORMATS.values():
        assert format_named(known.name) is format_named(known.name.lower()) is known
        for suffix in known.suffixes:
            expected = None if suffix in known.read_only_suffixes else known
            assert format_named(suffix[1:]) is expected
            assert (suffix in WRITABLE_SUFFIXES) == (expected is not None)
    assert format_named("nothing") is None


# Palettes


def test_gif_keeps_few_colours_exactly():
    colours = noise(255, 3, seed=2)
    pixels = colours[np.random.default_rng(3).integers(0, 255, (40, 50))]
    alpha = noise(40, 50, seed=4)
    for opacity in (None, alpha):
        with opened(written(Image(pixels, opacity), "gif")) as picture:
            found = np.asarray(picture.convert("RGBA"))
        shown = found[..., 3] == 255
        assert np.array_equal(shown, np.ones_like(shown) if opacity is None else alpha >= 128)
        assert np.array_equal(found[shown][:, :3], pixels[shown])


def test_gif_is_dithered():
    """A ramp of many colours has 256, and no steps when seen from afar."""
    rows, columns = np.mgrid[:128, :128] / np.float32(128)
    pixels = np.stack([rows, columns, 1 - rows], axis=2).astype(np.float32)
    with opened(written(Image(pixels), "gif")) as picture:
        found = np.asarray(picture.convert("RGB"), float)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 256
    blocks = (found - pixels * 255).reshape(16, 8, 16, 8, 3).mean((1, 3))
    assert np.abs(found - pixels * 255).mean() > 3
    assert np.abs(blocks).mean() < 1


def test_gif_grey_is_exact_and_has_a_hole():
    levels = np.arange(256, dtype=np.uint8).repeat(8).reshape(32, 64)
    pixels, alpha = np.stack([levels] * 3, 2), np.full((32, 64), 255, np.uint8)
    with opened(written(Image(pixels, grey=True), "gif")) as picture:
        assert np.array_equal(np.asarray(picture.convert("L")), levels)
    alpha[:8] = 100
    with opened(written(Image(pixels, alpha, grey=True), "gif")) as picture:
        found = np.asarray(picture.convert("LA"))
    assert np.array_equal(found[..., 1] > 0, alpha > 128)
    assert np.array_equal(found[8:, :, 0], levels[8:])
    alpha[:], alpha[0, 0] = 255, 0
    with opened(written(Image(pixels, alpha, grey=True), "gif")) as picture:
        found = np.asarray(picture.convert("LA"))
    difference = np.abs(found[..., 0].astype(int) - levels)[alpha > 0]
    assert difference.max() == 1  # all levels are in use: one gives way
    assert (difference > 0).sum() <= 8


# Colour profiles


@every_format
@pytest.mark.parametrize("transparent", [False, True])
def test_colours_mean_the_same_in_every_format(name, transparent):
    """What a viewer with colour management shows does not depend on the format."""
    alpha = np.ones((40, 56), np.float32) if transparent else None
    image = Image(smooth(), alpha, icc_profile=LINEAR)
    with opened(written(image, name, quality=100)) as picture:
        shown = viewed(picture)
    expected = np.asarray(to_srgb(PIL.Image.fromarray(bytes_of(image)), LINEAR), float)
    assert np.abs(bytes_of(image) - expected).mean() > 30
    lossy = name in ("JPEG", "WEBP", "AVIF", "HEIF", "GIF")
    assert np.abs(shown - expected).mean() < (4 if lossy else 0.01)


def viewed(picture: PIL.Image.Image) -> np.ndarray:
    profile, picture = picture.info.get("icc_profile"), picture.convert("RGB")
    return np.asarray(to_srgb(picture, profile) if profile else picture, float)


@every_format
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("profile", [LINEAR, LINEAR_GREY], ids=["colours", "grey"])
def test_grey_means_the_same_in_every_format(name, depth, profile):
    pixels = np.repeat(smooth()[..., :1], 3, axis=2)
    content = written(Image(pixels, None, True, profile, depth=depth), name, quality=100)
    light = smooth()[..., 0]
    if not (FORMATS[name].deep and depth == 16):
        light = np.rint(light * 255) / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    with opened(content) as picture:
        kept = picture.info.get("icc_profile")
        assert kept in (None, profile)
        if picture.mode == "I;16":
            shown = samples_of(content) / 257
        else:
            shown = np.asarray(picture.convert("L"), float)
    expected = light if kept else curve  # which a viewer then takes through the profile
    bound = 3 if FORMATS[name].quality else 0.03 if picture.mode == "I;16" else 1.01
    assert np.abs(shown - expected * 255).max() < bound


@every_format
@pytest.mark.parametrize("grey", [False, True])
def test_srgb_costs_nothing(name, grey):
    """Not a level changes, whether or not the profile goes along."""
    pixels = np.repeat(noise(40, 56, 1), 3, axis=2) if grey else noise(40, 56, 3)
    found = []
    for profile in (None, SRGB):
        with opened(written(Image(pixels, None, grey, profile), name)) as picture:
            found.append(np.asarray(picture))
    assert np.array_equal(*found)


def test_profiles_that_cannot_be_used_are_left_out():
    damaged = SRGB[:200] + bytes(len(SRGB) - 200)
    for profile in (damaged, SRGB[:100], b"", LINEAR_GREY):
        for name in ("bmp", "gif"):
            plain = written(Image(smooth()), name)
            assert written(Image(smooth(), icc_profile=profile), name) == plain
        deep = Image(smooth(), None, True, profile, depth=16)
        assert np.array_equal(
            samples_of(written(deep, "png")),
            samples_of(written(Image(smooth(), None, True, depth=16), "png")),
        )
