"""Pictures that cannot be read or written: one clear line, and nothing left behind."""

import contextlib
import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from dmsr_cli.errors import ImageError, SettingsError
from dmsr_cli.images import (
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Image,
    Limits,
    planes,
    read_image,
    reading,
    write_image,
)
from pictures import (
    SRGB,
    check_contract,
    error_of,
    needs_posix,
    noise,
    save,
    smooth,
)

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

    monkeypatch.setattr(reading, "image_of", fail)
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
    assert "more than the limit of 500000000" in error_of(read_image, path)
    assert pillow_limit == PIL.Image.MAX_IMAGE_PIXELS
    assert filters == warnings.filters


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".jpg", ".webp"])
def test_the_limit_is_ours_and_not_pillows(tmp_path, monkeypatch, suffix):
    path = save(tmp_path / f"a{suffix}", noise(10, 10))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 20)
    assert read_image(path, Limits(max_pixels=100)).height == 10
    assert PIL.Image.MAX_IMAGE_PIXELS == 20
    message = error_of(read_image, path, limits=Limits(max_pixels=99))
    assert "it has 100 pixels, more than the limit of 99" in message
    assert message.endswith("allow it with --max-pixels 100")


def test_empty_stream():
    with pytest.raises(ImageError, match=r"^cannot read standard input: it is empty"):
        read_image(io.BytesIO())


def test_stream_of_something_else():
    with pytest.raises(ImageError, match=r"^standard input is not a picture that can be read"):
        read_image(io.BytesIO(b"not pixels" * 50))


def test_stream_that_is_cut_short(tmp_path):
    content = save(tmp_path / "a.png", noise(60, 70, 3)).read_bytes()
    with pytest.raises(ImageError, match=r"^cannot read standard input: .* cut short"):
        read_image(io.BytesIO(content[:5000]))


def test_stream_without_end(monkeypatch):
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    monkeypatch.setattr(reading, "MAX_STREAM_BYTES", 5_000_000)
    with pytest.raises(ImageError, match=r"^cannot read standard input: it has more than 5000000"):
        read_image(Endless())


def test_stream_that_fails():
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(ImageError, match=r"^cannot read standard input: Input/output error$"):
        read_image(Broken())


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_package(tmp_path, monkeypatch, brand):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    assert 'pip install "dmsr-cli[heif]"' in error_of(read_image, path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_truncated_heic(tmp_path, part):
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(PIL.Image.fromarray(noise(60, 70, 3))).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    assert "cut short" in error_of(read_image, path)


def test_size_limit_of_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(PIL.Image.fromarray(noise(64, 64, 3))).save(path)
    message = error_of(read_image, path, limits=Limits(max_pixels=64 * 64 - 1))
    assert "it has 4096 pixels, more than the limit of 4095" in message


# Damage of any kind


def mutants(content: bytes, count: int, seed: int) -> list[bytes]:
    """The file cut off, with bytes changed, or with a piece put out or in."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        changed = bytearray(content)
        place = int(random.integers(len(changed)))
        if number % 4 == 0:
            del changed[place:]
        elif number % 4 == 1:
            del changed[place : place + int(random.integers(1, 40))]
        else:
            # Half of the changes fall on the start, where the headers are.
            end = len(changed) if number % 4 == 2 else min(len(changed), 400)
            for spot in random.integers(0, end, int(random.integers(1, 6))):
                changed[spot] = int(random.integers(256))
        found.append(bytes(changed))
    return found


def samples(folder: Path) -> list[bytes]:
    """A small file of each kind that has its own way through the reading."""
    flat, deep = noise(20, 17, 3), noise(20, 17, 3).astype(np.uint16) * 257
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "Maker", {0x9286: b"ASCII\0\0\0comment"}
    described = {"exif": exif.tobytes(), "icc_profile": SRGB}
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff="6"/>'
    paths = [
        save(folder / "a.png", flat, **described),
        save(folder / "a.jpg", flat, xmp=xmp, **described),
        save(folder / "a.webp", flat, xmp=xmp, **described),
        save(folder / "a.tif", flat, icc_profile=SRGB, tiffinfo={700: xmp, 274: 6}),
        save(folder / "b.tif", flat, compression="tiff_lzw"),
        *(save(folder / f"a{suffix}", flat) for suffix in (".gif", ".bmp", ".ppm", ".jp2")),
    ]
    for name, options in (
        ("c.tif", {"compression": "lzw", "predictor": True, "rowsperstrip": 7}),
        ("d.tif", {"compression": "zlib", "tile": (16, 16), "bigtiff": True}),
        ("e.tif", {"byteorder": ">"}),
    ):
        tifffile.imwrite(folder / name, deep, photometric="rgb", **options)
        paths.append(folder / name)
    tifffile.imwrite(folder / "f.tif", deep / np.float32(65_535), photometric="rgb")
    inks = np.concatenate([deep, deep[..., :1]], axis=2)
    tifffile.imwrite(folder / "g.tif", inks, photometric="separated")
    made = [
        imagecodecs.png_encode(deep),
        imagecodecs.jpeg2k_encode(deep, level=0),
        b"P6 17 20 65535\n" + deep.tobytes(),
        b"P3 17 20 1000\n" + b" ".join(b"%d" % (level % 1000) for level in deep.flat),
    ]
    paths += [folder / "f.tif", folder / "g.tif"]
    return [*(path.read_bytes() for path in paths), *made]


def test_damage_gives_a_picture_or_one_line(tmp_path):
    limits = Limits(max_pixels=1_000_000)
    path, outcomes = tmp_path / "mutant", {"read": 0, "all": 0}
    for seed, content in enumerate(samples(tmp_path)):
        path.write_bytes(content)
        check_contract(read_image(path))
        for mutant in mutants(content, 24, seed):
            path.write_bytes(mutant)
            with contextlib.suppress(ImageError):
                check_contract(read_image(path, limits))
                outcomes["read"] += 1
            outcomes["all"] += 1
    assert outcomes["all"] > 400
    assert 50 < outcomes["read"] < outcomes["all"] - 50


# Writing what cannot be written


@pytest.mark.parametrize("name", ["a.xyz", "a.pbm", "a", "a.png.txt"])
def test_suffix_without_a_format(tmp_path, name):
    message = error_of(write_image, tmp_path / name, smooth())
    assert repr(Path(name).suffix) in message
    assert all(suffix in message for suffix in WRITABLE_SUFFIXES)
    assert ("black and white only" in message) == (name == "a.pbm")


@pytest.mark.parametrize("name", ["xyz", "", "pbm", "png2"])
def test_format_without_a_name(tmp_path, name):
    with pytest.raises(SettingsError, match="use one of png, jpg, ") as caught:
        write_image(smooth(), tmp_path / "a.png", format=name)
    assert repr(name) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_stream_without_a_format():
    with pytest.raises(SettingsError, match="a stream has no suffix"):
        write_image(smooth(), io.BytesIO())


def test_writing_to_a_stream_that_fails():
    stream = io.BytesIO()
    stream.close()
    with pytest.raises(ImageError, match="cannot write to the stream: "):
        write_image(smooth(), stream, format="png")


def test_nothing_goes_to_a_stream_if_encoding_fails():
    stream = io.BytesIO()
    with pytest.raises(ImageError, match="not finite"):
        write_image(np.full((5, 4, 3), np.nan), stream, format="png")
    assert stream.getvalue() == b""


def test_colour_in_a_grey_format(tmp_path):
    write_image(smooth()[..., 0], tmp_path / "a.pgm")
    message = error_of(write_image, tmp_path / "b.pgm", smooth())
    assert "use .ppm or .png" in message
    assert not (tmp_path / "b.pgm").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path, monkeypatch, value):
    monkeypatch.setattr(planes, "STRIP_PIXELS", 300)  # most of the picture is converted by then
    pixels, alpha = smooth(), smooth()[..., 0].copy()
    pixels[38, 4, 1] = alpha[38, 4] = value
    eight_bit = noise(*alpha.shape, 3)
    grey = Image(pixels, grey=True)
    for image in (pixels, Image(pixels), Image(smooth(), alpha), Image(eight_bit, alpha), grey):
        assert "not finite" in error_of(write_image, tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 1), (3,), (0, 4, 3), (2, 3, 4, 3), (0, 4)])
def test_wrong_shape(tmp_path, shape):
    message = error_of(write_image, tmp_path / "a.png", np.zeros(shape))
    assert "height x width x 3" in message


def test_alpha_of_another_size(tmp_path):
    image = Image(smooth(), np.ones((3, 4), np.float32))
    assert "alpha has shape (3, 4)" in error_of(write_image, tmp_path / "a.png", image)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32, np.uint32, np.int64, np.complex64])
def test_values_of_another_type_are_refused(tmp_path, dtype):
    values, alpha = np.zeros((5, 4, 3), dtype), np.zeros((5, 4), dtype)
    for image in (values, alpha, Image(values), Image(smooth(5, 4), alpha)):
        message = error_of(write_image, tmp_path / "a.png", image)
        assert f"must be float in [0, 1], uint8 or uint16, not {np.dtype(dtype)}" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "side"),
    [(".webp", 16_383), (".jpg", 65_500), (".gif", 65_535), (".avif", 32_768)],
)
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
        ("pathlib.Path.open", OSError(28, "No space left on device")),
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
