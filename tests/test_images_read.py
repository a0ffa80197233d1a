"""Reading stills: every mode and format, CMYK, orientation."""

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from PIL import features

from dmsr_cli.images import (
    read_image,
    write_image,
)
from pictures import (
    SIZES,
    SRGB,
    bytes_of,
    check_contract,
    error_of,
    noise,
    save,
    smooth,
    stored_by_a_camera,
)

needs_littlecms = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow is built without littlecms"
)

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


@needs_littlecms
def test_cmyk_goes_through_its_profile(tmp_path):
    profile = cmyk_profile(blue_yellow=200)
    image = read_image(save_cmyk(tmp_path / "a.jpg", icc_profile=profile))
    red, green, blue = image.pixels[4, 8]
    assert blue < 0.1 < 0.4 < green < red  # a dark yellow, where plain conversion gives cyan
    assert image.icc_profile is None


def test_cmyk_with_a_damaged_profile_is_converted_plainly(tmp_path):
    image = read_image(save_cmyk(tmp_path / "a.jpg", icc_profile=cmyk_profile(200)[:150]))
    assert np.abs(image.pixels - [0, 1, 1]).max() < 0.02


def without_adobe_marker(content: bytes) -> bytes:
    start = content.index(b"\xff\xee\0\x0eAdobe")
    return content[:start] + content[start + 16 :]


def test_cmyk_of_adobe_stores_paper_and_any_other_stores_ink(tmp_path):
    path = save_cmyk(tmp_path / "a.jpg")
    adobe = read_image(path).pixels
    path.write_bytes(without_adobe_marker(path.read_bytes()))
    plain = read_image(path).pixels
    assert np.abs(adobe - [0, 1, 1]).max() < 0.02
    assert np.abs(plain).max() < 0.02  # cyan of no ink is all of the black


def test_ycck(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 0] = 255  # cyan
    stored = {"colorspace": "cmyk", "outcolorspace": "ycck", "level": 100, "subsampling": "444"}
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(255 - inks, **stored))
    with PIL.Image.open(tmp_path / "a.jpg") as picture:
        assert picture.info["adobe_transform"] == 2
    assert np.abs(read_image(tmp_path / "a.jpg").pixels - [0, 1, 1]).max() < 0.03


@needs_littlecms
@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (SRGB, "is for RGB pictures"),
        (b"broken" * 40, "is damaged"),
        (cmyk_profile(200)[:150], "is"),
    ],
)
def test_cmyk_says_that_its_profile_was_not_used(tmp_path, profile, said):
    (clause,) = read_image(save_cmyk(tmp_path / "a.jpg", icc_profile=profile)).warnings
    assert clause.startswith(f"its colour profile {said}")
    assert clause.endswith("was left out")


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}])
@pytest.mark.parametrize("grey", [False, True])
def test_jpeg(tmp_path, options, grey):
    array = np.rint(smooth(64, 48) * 255).astype(np.uint8)
    array = array[..., 0] if grey else array
    image = read_image(save(tmp_path / "a.jpg", array, quality=98, subsampling=0, **options))
    check_contract(image)
    assert (image.grey, image.depth, image.format) == (grey, 8, "JPEG")
    expected = array[..., None] if grey else array
    assert np.abs(bytes_of(image).astype(int) - expected).max() <= 6


# Streams


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and cannot be gone back in."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.content.read(min(len(buffer), 77))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".bmp"])
def test_stream(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", noise(13, 7, 3))
    image = read_image(path)
    for stream in (Pipe(path.read_bytes()), io.BytesIO(path.read_bytes()), path.open("rb")):
        with stream:
            streamed = read_image(stream)
            assert not stream.closed
        assert np.array_equal(streamed.pixels, image.pixels)
        assert streamed.format == image.format


# HEIC


def save_heic(path: Path, array: np.ndarray, **info) -> Path:
    """Without loss. The orientation in `exif` goes into the container, too, as on telephones."""
    pillow_heif = pytest.importorskip("pillow_heif")
    height, width, channels = array.shape
    mode = {3: "RGB", 4: "RGBA"}[channels] + (";16" if array.dtype == np.uint16 else "")
    picture = pillow_heif.from_bytes(mode, (width, height), array.tobytes())
    picture.info.update(info)
    picture.save(path, quality=-1, chroma=444, matrix_coefficients=0)
    return path


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heic_whatever_its_name(tmp_path, channels, name):
    array = noise(40, 30, channels)
    image = read_image(save_heic(tmp_path / name, array))
    check_contract(image)
    assert np.abs(bytes_of(image).astype(int) - array[..., :3]).max() <= 1
    assert (image.format, image.depth) == ("HEIF", 8)
    assert (image.alpha is None) == (channels == 3)
    assert channels == 3 or np.array_equal(np.rint(image.alpha * 255), array[..., 3])


def test_heic_of_ten_bit(tmp_path):
    array = np.random.default_rng(0).integers(0, 1024, (40, 30, 3), dtype=np.uint16)
    image = read_image(save_heic(tmp_path / "a.heic", array << 6))
    check_contract(image)
    assert image.depth == 16
    assert np.abs(np.rint(image.pixels * 1023) - array).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_metadata(tmp_path, orientation):
    upright = np.rint(smooth(32, 48) * 255).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x011B] = orientation, "Maker", 150.0, 150.0
    turned = {1: 0, 3: 2, 6: 1, 8: -1}[orientation]
    stored = np.ascontiguousarray(np.rot90(upright, turned))
    xmp = b'<x tiff:Orientation="%d"/>' % orientation
    path = save_heic(tmp_path / "a.heic", stored, exif=exif.tobytes(), icc_profile=SRGB, xmp=xmp)
    image = read_image(path)
    assert np.abs(bytes_of(image).astype(int) - upright).max() <= 2
    assert b"Maker" in image.exif
    kept = PIL.Image.Exif()
    kept.load(image.exif)
    assert 0x0112 not in kept
    assert image.xmp == b'<x tiff:Orientation="1"/>'
    assert image.dpi == (150, 150)
    assert image.icc_profile == SRGB
    assert image.warnings == ()


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_every_orientation_is_applied_once(tmp_path, orientation, suffix):
    upright = noise(6, 9, 3)
    stored = stored_by_a_camera(upright, orientation)
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
