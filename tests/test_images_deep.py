"""Reading more than 8 bit per channel: every level arrives, from every format that has them."""

import gc
import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from PIL import features
from PIL.PngImagePlugin import PngImageFile

from dmsr_cli.images import Limits, read_image, reading
from pictures import check_contract, error_of, noise, save, smooth
from test_images_read import cmyk_profile, needs_littlecms

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow is built without AVIF")


def deep_noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65_536, shape, dtype=np.uint16)


def levels(pixels: np.ndarray, white: int = 65_535) -> np.ndarray:
    return np.rint(pixels.astype(np.float64) * white).astype(int)


def check_levels(path: Path, array: np.ndarray, white: int = 65_535, has_alpha: bool = False):
    """The picture has exactly the levels of `array`, height x width x channels."""
    image = read_image(path)
    check_contract(image)
    assert image.depth == 16
    assert image.warnings == ()
    colours = array[..., :-1] if has_alpha else array
    assert image.grey == (colours.shape[2] == 1)
    assert np.array_equal(levels(image.pixels, white), np.broadcast_to(colours, image.pixels.shape))
    assert (image.alpha is not None) == has_alpha
    if has_alpha:
        assert np.array_equal(levels(image.alpha, white), array[..., -1])
    return image


# PNG


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(array: np.ndarray, *chunks: bytes, interlaced: bool = False) -> bytes:
    """A PNG of 16 bit, written by the book and not by a library that the reading uses, too."""
    height, width, channels = array.shape
    adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes = [*adam7, (1, 0, 2, 1)] if interlaced else [(0, 0, 1, 1)]
    data = b""
    for top, left, down, right in passes:
        part = array[top::down, left::right]
        if part.size:
            data += b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced)
    body = b"".join(chunks) + png_chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png(tmp_path, channels, interlaced):
    array = deep_noise(13, 11, channels)
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(array, interlaced=interlaced))
    check_levels(path, array, has_alpha=channels in (2, 4))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_with_a_transparent_colour(tmp_path, channels):
    array = deep_noise(13, 11, channels)
    array[2, 3] = array[4, 5]
    array[6, 7] = array[4, 5] ^ 1  # the same in 8 bit, and yet opaque
    colour = png_chunk(b"tRNS", struct.pack(f">{channels}H", *array[4, 5].tolist()))
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(array, colour))
    opacity = np.full((13, 11, 1), 65_535)
    opacity[[2, 4], [3, 5]] = 0
    check_levels(path, np.concatenate([array, opacity], axis=2), has_alpha=True)


def test_png_of_dark_pixels_stays_dark(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(np.full((3, 4, 3), 200, np.uint16)))
    assert read_image(path).pixels.max() == np.float32(200 / 65_535)


def test_png_says_its_depth_in_the_header(tmp_path):
    flat = np.full((3, 4, 3), 257 * 9, np.uint16)  # 8 bit would hold these pixels
    (tmp_path / "deep.png").write_bytes(deep_png(flat))
    save(tmp_path / "flat.png", np.full((3, 4, 3), 9, np.uint8))
    assert read_image(tmp_path / "deep.png").depth == 16
    assert read_image(tmp_path / "flat.png").depth == 8


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.97])
def test_truncated_png(tmp_path, part, interlaced):
    content = deep_png(deep_noise(40, 30, 3), interlaced=interlaced)
    path = tmp_path / "a.png"
    path.write_bytes(content[: int(len(content) * part)])
    assert "cut short" in error_of(read_image, path)


def test_damaged_png(tmp_path):
    content = bytearray(deep_png(deep_noise(40, 30, 3)))
    content[3000:3050] = bytes(50)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert "damaged or cut short" in error_of(read_image, path)


def test_header_and_pixels_of_other_shapes(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(deep_noise(4, 5, 3)))
    monkeypatch.setattr(imagecodecs, "png_decode", lambda content: deep_noise(5, 4, 3))
    assert "do not agree" in error_of(read_image, path)


def test_png_needs_no_more_copies_than_the_source_and_the_result(tmp_path, monkeypatch):
    array = deep_noise(500, 400, 3)
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(array))
    decode, alive = imagecodecs.png_decode, []

    def watched(content: bytes) -> np.ndarray:
        found = [o for o in gc.get_objects() if type(o) is PngImageFile]
        alive.extend(picture for picture in found if picture.size == (400, 500))
        return decode(content)

    monkeypatch.setattr(imagecodecs, "png_decode", watched)
    read_image(path)
    assert alive == []  # Pillow's own copy of the pixels has gone
    monkeypatch.undo()
    tracemalloc.start()
    image = read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * (image.pixels.nbytes + array.nbytes + path.stat().st_size)


# TIFF

COMPRESSIONS = [
    {},
    {"compression": "lzw"},
    {"compression": "lzw", "predictor": True},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True, "rowsperstrip": 3},
    {"compression": "packbits"},
    {"tile": (16, 16), "compression": "zlib"},
]
PHOTOMETRICS = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}


def save_tiff(path: Path, array: np.ndarray, planar: bool = False, **options) -> Path:
    """`array` is height x width x channels; an even number means that the last is opacity."""
    channels = array.shape[2]
    if channels in (2, 4) and "extrasamples" not in options and "photometric" not in options:
        options["extrasamples"] = ["unassalpha"]
    options = {"photometric": PHOTOMETRICS[channels]} | options
    if channels == 1:
        array = array[..., 0]
    elif planar:
        array, options["planarconfig"] = np.moveaxis(array, 2, 0), "separate"
    else:
        options["planarconfig"] = "contig"
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("options", COMPRESSIONS, ids=str)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff(tmp_path, channels, planar, byteorder, options):
    array = deep_noise(13, 11, channels)
    path = save_tiff(tmp_path / "a.tif", array, planar, byteorder=byteorder, **options)
    check_levels(path, array, has_alpha=channels in (2, 4))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_float_tiff(tmp_path, channels, planar, kind):
    array = np.random.default_rng(0).random((13, 11, channels)).astype(kind)
    options = {"compression": "lzw", "predictor": True} if kind is np.float32 else {}
    image = read_image(save_tiff(tmp_path / "a.tif", array, planar, **options))
    check_contract(image)
    assert image.depth == 16
    colours = array[..., :1] if channels < 3 else array[..., :3]
    assert np.array_equal(image.pixels, np.broadcast_to(colours.astype(np.float32), (13, 11, 3)))
    if channels in (2, 4):
        assert np.array_equal(image.alpha, array[..., -1].astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_big_tiff(tmp_path, channels):
    array = deep_noise(13, 11, channels)
    check_levels(save_tiff(tmp_path / "a.tif", array, bigtiff=True), array)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_an_odd_number_of_bits(tmp_path, bits):
    """Two bytes hold a sample, and the tag tells how many bits of them count."""
    array = deep_noise(8, 8, 3) >> (16 - bits)
    path = tmp_path / "a.tif"
    try:
        packed = imagecodecs.packints_encode(array.reshape(-1), bits)
    except NotImplementedError:
        pytest.skip("this release of imagecodecs only unpacks")
    tags = [(258, 3, 3, (bits,) * 3)]
    tifffile.imwrite(path, noise(8, 8, 3), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as file:
        count = file.pages[0].tags[279]
        offset = file.pages[0].tags[273].value[0]
        bit_tag = file.pages[0].tags[258]
    content = bytearray(path.read_bytes()[:offset] + packed)
    struct.pack_into("<3H", content, bit_tag.valueoffset, *tags[0][3])
    struct.pack_into("<I", content, count.valueoffset, len(packed))
    path.write_bytes(content)
    check_levels(path, array, 2**bits - 1)


def test_tiff_of_unsigned_32_bit(tmp_path):
    array = np.random.default_rng(0).integers(0, 2**32, (6, 5, 3), dtype=np.uint32)
    image = read_image(save_tiff(tmp_path / "a.tif", array))
    check_contract(image)
    assert np.abs(image.pixels - array / (2**32 - 1)).max() < 1e-7
    assert image.depth == 16


@pytest.mark.parametrize("array", [np.full((2, 3, 3), 1.5, np.float32), np.full((2, 3, 3), np.nan)])
def test_float_tiff_of_an_unknown_range_is_refused(tmp_path, array):
    assert "lie outside 0 to 1" in error_of(read_image, save_tiff(tmp_path / "a.tif", array))


@pytest.mark.parametrize("kind", [np.int8, np.int16])
def test_tiff_of_signed_numbers_is_refused(tmp_path, kind):
    path = save_tiff(tmp_path / "a.tif", np.ones((6, 5, 3), kind))
    assert "convert it to 8 or 16 bit" in error_of(read_image, path)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_tiff_in_which_0_is_white(tmp_path, kind):
    array = smooth()[..., :1] if kind is np.float32 else deep_noise(13, 11, 1)
    image = read_image(save_tiff(tmp_path / "a.tif", array, photometric="miniswhite"))
    expected = 1 - array if kind is np.float32 else (65_535 - array) / 65_535
    assert np.abs(image.pixels - expected).max() < 1e-6


def test_tiff_with_associated_alpha(tmp_path):
    colours, opacity = deep_noise(40, 30, 3), deep_noise(40, 30, 1, seed=1)
    opacity[:5] = 0
    stored = np.rint(colours / 65_535 * opacity).astype(np.uint16)
    path = tmp_path / "a.tif"
    save_tiff(path, np.concatenate([stored, opacity], axis=2), extrasamples=["assocalpha"])
    image = read_image(path)
    check_contract(image)
    assert np.array_equal(levels(image.alpha), opacity[..., 0])
    visible = opacity[..., 0] > 6_000
    assert np.abs(levels(image.pixels)[visible] - colours[visible].astype(int)).max() <= 11
    assert not image.pixels[:5].any()


def test_tiff_with_a_channel_that_is_no_alpha(tmp_path):
    array = deep_noise(13, 11, 4)
    path = save_tiff(tmp_path / "a.tif", array, extrasamples=["unspecified"])
    check_levels(path, array[..., :3])


def test_tiff_of_many_channels_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, deep_noise(9, 8, 6), photometric="minisblack", planarconfig="contig")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[338].overwrite((0,))
    assert "6 channels" in error_of(read_image, path)


def test_tiff_of_an_unknown_colour_space_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", deep_noise(9, 8, 3), photometric="cielab")
    message = error_of(read_image, tmp_path / "a.tif")
    assert "CIELAB at 16 bit" in message
    assert "convert it to RGB" in message


@pytest.mark.parametrize("options", COMPRESSIONS, ids=str)
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_truncated_tiff(tmp_path, kind, options):
    array = smooth() if kind is np.float32 else deep_noise(40, 56, 3)
    path = save_tiff(tmp_path / "a.tif", array, **options)
    content = path.read_bytes()
    for part in (0.5, 0.9, 0.995):
        path.write_bytes(content[: int(len(content) * part)])
        assert "cut short" in error_of(read_image, path)


def test_tiff_with_a_part_that_was_never_written(tmp_path):
    path = save_tiff(tmp_path / "a.tif", deep_noise(40, 56, 3), rowsperstrip=10, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[279]
        tag.overwrite((*tag.value[:-1], 0))
    assert "parts of the picture are missing" in error_of(read_image, path)


def test_size_limit_where_pillow_cannot_look(tmp_path):
    path = save_tiff(tmp_path / "a.tif", smooth(10, 10))
    assert read_image(path, Limits(max_pixels=100)).height == 10
    message = error_of(read_image, path, limits=Limits(max_pixels=99))
    assert "it has 100 pixels, more than the limit of 99" in message


def test_pages_of_a_tiff(tmp_path):
    pages = deep_noise(3, 13, 11, 3)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    with (tmp_path / "a.tif").open("rb") as file:
        for number, page in enumerate(pages):
            image = reading.page_of(file, number)
            assert np.array_equal(levels(image.pixels), page)
    check_levels(tmp_path / "a.tif", pages[0])


def test_odd_tiff_prints_nothing(tmp_path):
    path = save_tiff(tmp_path / "a.tif", deep_noise(40, 56, 3), rowsperstrip=10)
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[279]
        tag.overwrite(tag.value[:-1])
        file.pages[0].tags[262].overwrite(60_000)
    code = (
        "import contextlib, sys, dmsr_cli\n"
        "with contextlib.suppress(dmsr_cli.DmsrError): dmsr_cli.read_image(sys.argv[1])"
    )
    done = subprocess.run(  # in a Python of its own, where nobody else takes the remarks
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout, done.stderr) == (b"", b"")


# Inks of 16 bit


def inks() -> np.ndarray:
    array = deep_noise(13, 11, 4)
    array[0, :4] = [[0, 0, 0, 0], [65_535, 0, 0, 0], [0, 0, 0, 65_535], [0, 32_768, 0, 0]]
    return array


@pytest.mark.parametrize("planar", [False, True])
def test_deep_cmyk_without_a_profile(tmp_path, planar):
    path = save_tiff(tmp_path / "a.tif", inks(), planar, photometric="separated")
    image = read_image(path)
    check_contract(image)
    paper = 1 - inks() / 65_535
    assert np.abs(image.pixels - paper[..., :3] * paper[..., 3:]).max() < 1e-5
    assert (image.depth, image.icc_profile, image.warnings) == (16, None, ())


@needs_littlecms
def test_deep_cmyk_goes_through_its_profile_as_eight_bit_does(tmp_path):
    tag = (34_675, 7, None, cmyk_profile(200), True)
    deep, flat = np.repeat(inks()[:1, :4], 8, axis=0), inks()[:1, :4] >> 8
    save_tiff(tmp_path / "a.tif", deep, photometric="separated", extratags=[tag])
    shallow = PIL.Image.fromarray(np.repeat(flat.astype(np.uint8), 8, axis=0), "CMYK")
    shallow.save(tmp_path / "b.tif", icc_profile=cmyk_profile(200))
    deep_image, image = read_image(tmp_path / "a.tif"), read_image(tmp_path / "b.tif")
    assert np.abs(deep_image.pixels - image.pixels).max() < 0.02
    assert deep_image.pixels.std() > 0.1
    assert deep_image.icc_profile is None


# PNM


def pnm(kind: int, array: np.ndarray, largest: int) -> bytes:
    head = b"P%d\n# made by hand\n%d %d\n%d\n" % (kind, array.shape[1], array.shape[0], largest)
    if kind in (5, 6):
        return head + array.astype(">u2").tobytes()
    return head + b"\n".join(b"%d # a level" % level for level in array.flat) + b"\n"


@pytest.mark.parametrize(("kind", "channels"), [(2, 1), (3, 3), (5, 1), (6, 3)])
@pytest.mark.parametrize("largest", [65_535, 1023, 300])
def test_pnm(tmp_path, kind, channels, largest):
    array = deep_noise(13, 11, channels).astype(int) % (largest + 1)
    path = tmp_path / ("a.pgm" if channels == 1 else "a.ppm")
    path.write_bytes(pnm(kind, array, largest))
    check_levels(path, array, largest)


def test_pnm_of_eight_bit_has_depth_8(tmp_path):
    assert read_image(save(tmp_path / "a.ppm", noise(5, 4, 3))).depth == 8


@pytest.mark.parametrize("kind", [3, 6])
def test_truncated_pnm(tmp_path, kind):
    content = pnm(kind, deep_noise(13, 11, 3), 65_535)
    path = tmp_path / "a.ppm"
    path.write_bytes(content[: len(content) // 2])
    assert "cut short" in error_of(read_image, path)


# JPEG 2000, AVIF


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg2000(tmp_path, channels, bits):
    array = deep_noise(40, 30, channels) >> (16 - bits)
    path = tmp_path / "a.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(array, level=0, bitspersample=bits))
    check_levels(path, array, 2**bits - 1, has_alpha=channels == 4)


@pytest.mark.parametrize("part", [0.5, 0.95])
def test_truncated_deep_jpeg2000(tmp_path, part):
    content = imagecodecs.jpeg2k_encode(deep_noise(40, 30, 3), level=0)
    (tmp_path / "a.jp2").write_bytes(content[: int(len(content) * part)])
    assert "cut short" in error_of(read_image, tmp_path / "a.jp2")


@needs_avif
@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif(tmp_path, channels, bits):
    array = deep_noise(40, 30, channels) >> (16 - bits)
    path = tmp_path / "a.avif"
    path.write_bytes(imagecodecs.avif_encode(np.squeeze(array), level=100, bitspersample=bits))
    check_levels(path, array, 2**bits - 1, has_alpha=channels == 4)
    assert read_image(path).format == "AVIF"


# Against another library


def test_a_transparent_level_of_a_frame_that_pillow_decoded():
    array = deep_noise(13, 11)
    picture = PIL.Image.fromarray(array)
    picture.info["transparency"] = int(array[3, 4])
    image = reading.image_of(picture)
    assert np.array_equal(levels(image.pixels[..., 0]), array)
    assert np.array_equal(image.alpha, array != array[3, 4])
    assert image.depth == 16


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jp2"])
def test_the_first_eight_bits_are_those_that_pillow_reads(tmp_path, suffix):
    array = deep_noise(40, 30, 3) // 2  # Pillow's rounding of JPEG 2000 turns white into black
    path = tmp_path / f"a{suffix}"
    write = {
        ".png": deep_png,
        ".ppm": lambda pixels: pnm(6, pixels, 65_535),
        ".jp2": lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0),
    }
    if suffix == ".tif":
        save_tiff(path, array)
    else:
        path.write_bytes(write[suffix](array))
    with PIL.Image.open(path) as picture:
        shallow = np.asarray(picture.convert("RGB")) / 255
    assert np.abs(read_image(path).pixels - shallow).max() < 1 / 255


def test_deep_pictures_come_from_streams(tmp_path):
    array = deep_noise(13, 11, 3)
    save_tiff(tmp_path / "a.tif", array)
    for content in (deep_png(array), (tmp_path / "a.tif").read_bytes()):
        assert np.array_equal(levels(read_image(io.BytesIO(content)).pixels), array)
