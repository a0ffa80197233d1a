"""Reading and writing stills: what goes in comes out, and what cannot is one clear line."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms, features

from dmsr_cli import images
from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import (
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Image,
    find_images,
    read_image,
    resize_alpha,
    write_image,
)

SIZES = [(1, 1), (1, 17), (17, 1), (13, 7)]
LOSSLESS = [".png", ".tif", ".tiff", ".bmp"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = bytes(12) + b"mntrGRAYXYZ " + bytes(104)  # a header is all that is looked at
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int = 40, width: int = 56) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [rows / height, columns / width, (rows + columns) / (height + width)]
    return np.stack(planes, axis=2).astype(np.float32)


def save(path: Path, array: np.ndarray, **options) -> Path:
    PIL.Image.fromarray(array).save(path, **options)
    return path


def bytes_of(image: Image) -> np.ndarray:
    return np.rint(image.pixels * 255).astype(np.uint8)


def error_of(call, path: Path, *arguments, **options) -> str:
    """The message that `call` fails with: one line that has the file's name in it."""
    with pytest.raises(ImageError) as caught:
        call(*arguments, path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def check_contract(image: Image) -> None:
    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.min() >= 0
    assert image.pixels.max() <= 1
    assert image.pixels.flags.c_contiguous
    if image.alpha is not None:
        assert image.alpha.dtype == np.float32
        assert image.alpha.shape == (image.height, image.width)
        assert 0 <= image.alpha.min() <= image.alpha.max() <= 1


# Reading, mode by mode


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("size", SIZES)
def test_rgb(tmp_path, suffix, size):
    array = noise(*size, 3)
    image = read_image(save(tmp_path / f"a{suffix}", array))
    check_contract(image)
    assert np.array_equal(image.pixels, array.astype(np.float32) / np.float32(255))
    assert (image.alpha, image.grey) == (None, False)
    assert (image.icc_profile, image.exif) == (None, None)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pgm"])
def test_grey(tmp_path, suffix):
    array = np.arange(91, dtype=np.uint8).reshape(13, 7)
    image = read_image(save(tmp_path / f"a{suffix}", array))
    check_contract(image)
    assert image.grey
    assert image.alpha is None
    assert np.array_equal(bytes_of(image), np.repeat(array[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pbm"])
def test_one_bit(tmp_path, suffix):
    array = noise(13, 7) > 127
    image = read_image(save(tmp_path / f"a{suffix}", array))
    check_contract(image)
    assert image.grey
    assert np.array_equal(image.pixels[..., 0], array)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_channel(tmp_path, suffix, channels):
    array = noise(13, 7, channels)
    image = read_image(save(tmp_path / f"a{suffix}", array))
    check_contract(image)
    assert image.grey == (channels == 2)
    assert np.array_equal(np.rint(image.alpha * 255), array[..., -1])
    colour = np.repeat(array[..., :1], 3, axis=2) if channels == 2 else array[..., :3]
    assert np.array_equal(bytes_of(image), colour)


def test_palette(tmp_path):
    array = noise(13, 7) % 4
    palette = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 8, 7)]
    picture = PIL.Image.fromarray(array)
    picture.putpalette([value for colour in palette for value in colour])
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", transparency=bytes([0, 100, 255, 255]))
    picture.save(tmp_path / "c.gif", transparency=1)
    opaque, translucent, gif = (read_image(tmp_path / n) for n in ("a.png", "b.png", "c.gif"))
    for image in (opaque, translucent, gif):
        check_contract(image)
        assert not image.grey
        assert np.array_equal(bytes_of(image), np.array(palette)[array])
    assert opaque.alpha is None
    assert np.array_equal(np.rint(translucent.alpha * 255), np.array([0, 100, 255, 255])[array])
    assert np.array_equal(gif.alpha, array != 1)


def test_palette_with_alpha_channel(tmp_path):
    picture = PIL.Image.fromarray(noise(13, 7, 4)).convert("PA")
    picture.save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    expected = np.asarray(picture.convert("RGBA"))
    assert np.array_equal(bytes_of(image), expected[..., :3])
    assert np.array_equal(np.rint(image.alpha * 255), expected[..., 3])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_a_transparent_grey_value(tmp_path, dtype):
    array = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    value = 255 if dtype is bool else 1  # Pillow's way to name the white of one bit
    image = read_image(save(tmp_path / "a.png", array, transparency=value))
    check_contract(image)
    assert image.grey
    assert np.array_equal(image.alpha, array != 1)


def test_a_transparent_colour(tmp_path):
    array = noise(5, 4, 3)
    array[2, 3] = (1, 2, 3)
    image = read_image(save(tmp_path / "a.png", array, transparency=(1, 2, 3)))
    assert image.alpha[2, 3] == 0
    assert image.alpha.sum() == 19


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_keeps_every_level(tmp_path, suffix):
    array = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    image = read_image(save(tmp_path / f"a{suffix}", array))
    check_contract(image)
    assert image.grey
    assert np.array_equal(np.rint(image.pixels[..., 1] * 65_535), array)


def test_dark_sixteen_bit_grey_stays_dark(tmp_path):
    image = read_image(save(tmp_path / "a.png", np.full((3, 4), 200, dtype=np.uint16)))
    assert image.pixels.max() == np.float32(200 / 65_535)


def test_float_grey(tmp_path):
    array = smooth()[..., 0]
    image = read_image(save(tmp_path / "a.tif", array))
    assert image.grey
    assert np.array_equal(image.pixels[..., 2], array)


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 3), 1.5, np.float32),
        np.full((2, 3), np.nan, np.float32),
        np.full((2, 3), 70_000, np.int32),
        np.full((2, 3), -1, np.int32),
    ],
)
def test_values_of_an_unknown_range_are_refused(tmp_path, array):
    message = error_of(read_image, save(tmp_path / "a.tif", array))
    assert "convert it to 8 or 16 bit" in message


def test_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".png", ".webp"):
        path = tmp_path / f"a{suffix}"
        options = {"lossless": True} if suffix == ".webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(bytes_of(read_image(path))[0, 0], (255, 0, 0))


# CMYK


def cmyk_profile(blue_yellow: int) -> bytes:
    """A valid CMYK profile: black ink gives black, any other mixture Lab 50, 0, b as told."""
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(np.eye(3, dtype=int).flatten() * 65_536))
    lut += ramp * 4 + bytes([128, 128, blue_yellow, 0, 128, 128]) * 8 + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1)
    body, table = b"", b""
    tags = [(b"A2B0", lut), (b"wtpt", white), (b"cprt", text), (b"desc", name)]
    start = 128 + 4 + 12 * len(tags)
    for signature, data in tags:
        table += signature + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI", start + len(body), bytes(4), 0x02100000) + b"prtrCMYKLab "
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def save_cmyk(path: Path, **options) -> Path:
    PIL.Image.new("CMYK", (16, 8), (255, 0, 0, 0)).save(path, quality=100, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"icc_profile": SRGB}, {"icc_profile": b"broken" * 40}])
def test_cmyk_without_a_usable_profile_is_converted_plainly(tmp_path, options):
    image = read_image(save_cmyk(tmp_path / "a.jpg", **options))
    check_contract(image)
    assert np.abs(image.pixels - [0, 1, 1]).max() < 0.02
    assert not image.grey
    assert image.icc_profile is None


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow is built without littlecms")
def test_cmyk_goes_through_its_profile(tmp_path):
    profile = cmyk_profile(blue_yellow=200)
    image = read_image(save_cmyk(tmp_path / "a.jpg", icc_profile=profile))
    red, green, blue = image.pixels[4, 8]
    assert blue < 0.1 < 0.4 < green < red  # a dark yellow, where plain conversion gives cyan
    assert image.icc_profile is None


def test_cmyk_with_a_damaged_profile_is_converted_plainly(tmp_path):
    image = read_image(save_cmyk(tmp_path / "a.jpg", icc_profile=cmyk_profile(200)[:150]))
    assert np.abs(image.pixels - [0, 1, 1]).max() < 0.02


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_every_orientation_is_applied_once(tmp_path, orientation, suffix):
    upright = noise(6, 9, 3)
    stored = {  # what a camera held that way writes
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "described"
    options = {"tiffinfo": {0x0112: orientation}} if suffix == ".tif" else {"exif": exif.tobytes()}
    if suffix == ".webp":
        options["lossless"] = True
    path = save(tmp_path / f"a{suffix}", np.ascontiguousarray(stored), **options)
    image = read_image(path)
    assert np.array_equal(bytes_of(image), upright)
    for copy in (tmp_path / "copy.png", tmp_path / "copy.jpg", tmp_path / "copy.webp"):
        write_image(image, copy)
        again = read_image(copy)
        assert again.pixels.shape == image.pixels.shape
        assert again.exif == image.exif
        with PIL.Image.open(copy) as picture:
            kept = picture.getexif()
            assert kept.get(0x0112, 1) == 1
            assert kept.get(0x010E) == (None if suffix == ".tif" else "described")


def test_orientation_of_sixteen_bit_grey(tmp_path):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    image = read_image(save(tmp_path / "a.png", array, exif=exif))
    assert np.array_equal(np.rint(image.pixels[..., 0] * 65_535), np.rot90(array, -1))


@pytest.mark.parametrize(
    "block", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_does_not_cost_the_picture(tmp_path, block):
    array = noise(5, 4, 3)
    image = read_image(save(tmp_path / "a.png", array, exif=b"Exif\0\0" + block))
    assert np.array_equal(bytes_of(image), array)
    write_image(image, tmp_path / "b.jpg")


# Writing


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("size", SIZES)
def test_lossless_round_trip(tmp_path, suffix, size):
    array = noise(*size, 3)
    path = tmp_path / f"a{suffix}"
    write_image(array / np.float64(255), path)
    image = read_image(path)
    assert np.array_equal(bytes_of(image), array)
    assert not image.grey


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".webp"])
@pytest.mark.parametrize("size", SIZES)
def test_lossy_round_trip_of_any_size(tmp_path, suffix, size):
    path = tmp_path / f"a{suffix}"
    write_image(np.full((*size, 3), 0.6, np.float32), path)
    image = read_image(path)
    assert image.pixels.shape == (*size, 3)
    assert np.abs(image.pixels - 0.6).max() < 0.02


@pytest.mark.parametrize(("suffix", "bound"), [(".jpg", 0.01), (".webp", 0.02)])
def test_lossy_formats_are_close(tmp_path, suffix, bound):
    path = tmp_path / f"a{suffix}"
    write_image(smooth(), path)
    assert np.abs(read_image(path).pixels - smooth()).mean() < bound


def test_quality_changes_the_size(tmp_path):
    array = noise(64, 64, 3) / 255
    for suffix in (".jpg", ".webp"):
        low, high = tmp_path / f"low{suffix}", tmp_path / f"high{suffix}"
        write_image(array, low, quality=50)
        write_image(array, high)
        assert low.stat().st_size < 0.8 * high.stat().st_size


@pytest.mark.parametrize("quality", [0, 101])
def test_impossible_quality(tmp_path, quality):
    with pytest.raises(SettingsError, match="quality must be from 1 to 100"):
        write_image(smooth(), tmp_path / "a.jpg", quality=quality)


def test_jpeg_has_full_chroma(tmp_path):
    write_image(smooth(), tmp_path / "a.jpg")
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg"])
def test_grey_is_stored_as_one_channel(tmp_path, suffix):
    array = noise(13, 7)
    source = read_image(save(tmp_path / "source.png", array))
    path = tmp_path / f"a{suffix}"
    write_image(source, path)
    with PIL.Image.open(path) as picture:
        assert picture.mode == "L"
    image = read_image(path)
    assert image.grey
    if suffix != ".jpg":
        assert np.array_equal(bytes_of(image)[..., 0], array)


def test_grey_is_the_luma_of_the_pixels(tmp_path):
    pixels = noise(13, 7, 3) / np.float32(255)
    write_image(Image(pixels, grey=True), tmp_path / "a.png")
    expected = np.asarray(PIL.Image.fromarray(noise(13, 7, 3)).convert("L"), dtype=int)
    stored = bytes_of(read_image(tmp_path / "a.png"))[..., 0]
    assert np.abs(stored - expected).max() <= 1


def test_a_plane_is_a_grey_picture(tmp_path):
    write_image(noise(13, 7) / 255, tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.grey
    assert np.array_equal(bytes_of(image)[..., 0], noise(13, 7))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_round_trip(tmp_path, suffix, grey):
    alpha = noise(13, 7, seed=1) / np.float32(255)
    image = Image(np.full((13, 7, 3), 0.6, np.float32), alpha, grey)
    write_image(image, tmp_path / f"a{suffix}")
    again = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(again.alpha, alpha)
    assert again.grey == (grey and suffix != ".webp")
    visible = alpha > 0.1
    assert np.abs(again.pixels - 0.6)[visible].max() < 0.03


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("grey", [False, True])
def test_formats_without_alpha_show_the_picture_over_white(tmp_path, suffix, grey):
    alpha = np.repeat(np.float32([0, 0.5, 1]), 16)[None].repeat(16, axis=0)
    write_image(Image(np.zeros((16, 48, 3), np.float32), alpha, grey), tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.alpha is None
    assert image.grey == grey
    assert image.pixels[8, [8, 24, 40], 1] == pytest.approx([1, 0.5, 0], abs=0.02)


def test_values_are_clipped_and_rounded(tmp_path):
    values = np.array([[-3, -0.001, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.001, 70]])
    before = values.copy()
    write_image(values, tmp_path / "a.png")
    stored = bytes_of(read_image(tmp_path / "a.png"))[0, :, 0]
    assert stored.tolist() == [0, 0, 0, 1, 255, 255, 255]
    assert np.array_equal(values, before)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_is_carried_if_it_fits_the_channels(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(Image(smooth(), icc_profile=SRGB), path)
    assert read_image(path).icc_profile == SRGB
    write_image(Image(smooth(), icc_profile=GREY_PROFILE), path)
    assert read_image(path).icc_profile is None
    write_image(Image(smooth(), grey=True, icc_profile=GREY_PROFILE), path)
    assert read_image(path).icc_profile == (None if suffix == ".webp" else GREY_PROFILE)
    write_image(Image(smooth(), grey=True, icc_profile=SRGB), path)
    assert read_image(path).icc_profile == (SRGB if suffix == ".webp" else None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_resolution_is_carried(tmp_path, suffix):
    write_image(Image(smooth(), dpi=(300, 200)), tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").dpi == pytest.approx((300, 200), abs=0.05)
    write_image(smooth(), tmp_path / f"b{suffix}")
    assert read_image(tmp_path / f"b{suffix}").dpi in (None, pytest.approx((96, 96), abs=0.1))


def test_exif_too_large_for_jpeg_is_left_out(tmp_path):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(70_000)
    write_image(Image(smooth(), exif=exif), tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").exif is None


@pytest.mark.parametrize("suffix", sorted(READABLE_SUFFIXES))
def test_every_readable_suffix_is_a_format_that_works(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    PIL.Image.new(mode, (20, 16), "white").save(path)
    image = read_image(path)
    assert image.pixels.shape == (16, 20, 3)
    assert image.pixels.min() > 0.98
    assert image.format in images._SUFFIXES_OF


def test_a_picture_with_the_wrong_suffix_is_read(tmp_path):
    save(tmp_path / "a.jpg", noise(5, 4, 3), format="PNG")
    assert read_image(tmp_path / "a.jpg").format == "PNG"


# Reading what cannot be read


def test_missing_file(tmp_path):
    assert error_of(read_image, tmp_path / "a.png").endswith("a.png: no such file")


def test_folder(tmp_path):
    (tmp_path / "a.png").mkdir()
    assert "it is a folder" in error_of(read_image, tmp_path / "a.png")


def test_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert "the file is empty" in error_of(read_image, tmp_path / "a.png")


def test_text_file(tmp_path):
    (tmp_path / "a.png").write_text("not pixels\n" * 50)
    assert "is not a picture that can be read" in error_of(read_image, tmp_path / "a.png")


def test_postscript_starts_no_interpreter(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    assert "is not a picture that can be read" in error_of(read_image, tmp_path / "a.png")


@needs_posix
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert "not a regular file" in error_of(read_image, tmp_path / "a.png")


def test_permission_denied(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(5, 4, 3))

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert error_of(read_image, path).endswith("a.png: Permission denied")


@needs_posix
def test_name_with_a_line_break_stays_one_line(tmp_path):
    with pytest.raises(ImageError, match="no such file") as caught:
        read_image(tmp_path / "a\nb.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("suffix", sorted(READABLE_SUFFIXES - {".pbm", ".pgm", ".pnm"}))
def test_truncated_file(tmp_path, suffix, part):
    path = save(tmp_path / f"a{suffix}", noise(60, 70, 3))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    message = error_of(read_image, path)
    assert "cut short" in message or "is not a picture that can be read" in message


def test_damaged_png_data(tmp_path):
    path = save(tmp_path / "a.png", noise(60, 70, 3))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    assert "damaged or cut short" in error_of(read_image, path)


@pytest.mark.parametrize("failure", [EOFError(), struct.error("a\nb"), KeyError(1), OSError("x")])
def test_any_decoder_failure_is_one_line(tmp_path, monkeypatch, failure):
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(PIL.Image, "open", fail)
    path = save(tmp_path / "a.png", noise(5, 4, 3))
    assert "damaged or cut short" in error_of(read_image, path)


def test_out_of_memory(tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_from_picture", fail)
    path = save(tmp_path / "a.png", noise(5, 4, 3))
    assert "does not fit into memory" in error_of(read_image, path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("height", [20_001, 60_000])  # Pillow warns of one, refuses the other
def test_decompression_bomb(tmp_path, height):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(25_000, height))
    pillow_limit, filters = PIL.Image.MAX_IMAGE_PIXELS, warnings.filters[:]
    assert "more than 500000000 pixels" in error_of(read_image, path)
    assert pillow_limit == PIL.Image.MAX_IMAGE_PIXELS
    assert filters == warnings.filters


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".jpg", ".webp"])
def test_the_limit_is_ours_and_not_pillows(tmp_path, monkeypatch, suffix):
    path = save(tmp_path / f"a{suffix}", noise(10, 10))
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 20)
    assert read_image(path).height == 10
    assert PIL.Image.MAX_IMAGE_PIXELS == 20
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    assert "more than 99 pixels" in error_of(read_image, path)


# Writing what cannot be written


@pytest.mark.parametrize("name", ["a.xyz", "a.gif", "a", "a.png.txt"])
def test_suffix_without_a_format(tmp_path, name):
    message = error_of(write_image, tmp_path / name, smooth())
    assert repr(Path(name).suffix) in message
    assert all(suffix in message for suffix in WRITABLE_SUFFIXES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    pixels, alpha = smooth(), smooth()[..., 0]
    pixels[3, 4, 1] = alpha[3, 4] = value
    for image in (pixels, Image(pixels), Image(smooth(), alpha)):
        assert "not finite" in error_of(write_image, tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 1), (3,), (0, 4, 3), (2, 3, 4, 3), (0, 4)])
def test_wrong_shape(tmp_path, shape):
    message = error_of(write_image, tmp_path / "a.png", np.zeros(shape))
    assert "height x width x 3" in message


def test_alpha_of_another_size(tmp_path):
    image = Image(smooth(), np.ones((3, 4), np.float32))
    assert "alpha has shape (3, 4)" in error_of(write_image, tmp_path / "a.png", image)


def test_whole_numbers_are_refused(tmp_path):
    message = error_of(write_image, tmp_path / "a.png", noise(5, 4, 3))
    assert "must be float in [0, 1], not uint8" in message


@pytest.mark.parametrize(("suffix", "side"), [(".webp", 16_383), (".jpg", 65_500)])
def test_size_limit_of_the_format(tmp_path, suffix, side):
    path = tmp_path / f"a{suffix}"
    write_image(np.zeros((1, side)), path)
    assert read_image(path).width == side
    message = error_of(write_image, path, np.zeros((1, side + 1)))
    assert f"allows {side} on a side" in message
    assert read_image(path).width == side
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_folder(tmp_path):
    message = error_of(write_image, tmp_path / "missing" / "a.png", smooth())
    assert "there is no folder" in message


@pytest.mark.parametrize(
    ("step", "failure"),
    [
        ("PIL.Image.Image.save", OSError("encoder error -2\nwhen writing")),
        ("PIL.Image.Image.save", struct.error("no room")),
        ("os.open", PermissionError(13, "Permission denied")),
        ("pathlib.Path.write_bytes", OSError(28, "No space left on device")),
        ("os.fsync", OSError(5, "Input/output error")),
        ("pathlib.Path.replace", PermissionError(13, "Permission denied")),
    ],
)
def test_failure_at_any_step_keeps_the_old_file_alone(tmp_path, monkeypatch, step, failure):
    path = tmp_path / "a.png"
    path.write_text("old")

    def fail(*arguments: object, **options: object) -> None:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        message = error_of(write_image, path, smooth())
    assert message.startswith(f"cannot write {path}: ")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["PIL.Image.Image.save", "os.fsync", "pathlib.Path.replace"])
def test_interrupt_leaves_no_file(tmp_path, monkeypatch, step):
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_image(smooth(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@needs_posix
def test_result_has_the_mode_of_an_ordinary_new_file(tmp_path):
    write_image(smooth(), tmp_path / "a.png")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


# Alpha, folders, imports


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_resized_alpha(scale, size):
    alpha = noise(*size) / np.float32(255)
    resized = resize_alpha(alpha, scale)
    assert resized.shape == (size[0] * scale, size[1] * scale)
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_constant_alpha_stays_constant(scale):
    for value in np.arange(256, dtype=np.float32) / np.float32(255):
        assert (resize_alpha(np.full((5, 7), value, np.float32), scale) == value).all()


def test_resized_alpha_follows_the_edge():
    alpha = np.zeros((8, 8), np.float32)
    alpha[:, 4:] = 1
    resized = resize_alpha(alpha, 4)
    assert (resized[:, :12] < 0.01).all()
    assert (resized[:, 20:] > 0.99).all()
    assert resized.mean() == pytest.approx(0.5, abs=0.001)


def test_find_images(tmp_path):
    names = ["b.PNG", "a.jpg", "c.txt", ".d.png", "sub/e.webp", ".hidden/f.png", "sub/x/g.tiff"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.png").mkdir()
    flat = ["a.jpg", "b.PNG"]
    assert find_images(tmp_path, recursive=False) == [tmp_path / name for name in flat]
    deep = ["a.jpg", "b.PNG", "sub/e.webp", "sub/x/g.tiff"]
    assert find_images(tmp_path, recursive=True) == [tmp_path / name for name in deep]


def test_find_images_in_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        message = error_of(find_images, tmp_path / name)
        assert message.startswith("cannot list the folder")


def test_importing_needs_no_torch():
    code = "import sys, dmsr_cli.images; sys.exit('torch' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
