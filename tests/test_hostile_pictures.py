"""Pictures that were made to harm: each ends as one line, without much memory."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from animations import SIZE, WHOLE, Drawn, apng, coloured, gif
from dmsr_cli.cli.main import main
from dmsr_cli.errors import ImageError
from dmsr_cli.images import FORMATS, IsolatedDecoder, Limits, open_sequence, read_image
from dmsr_cli.images.formats import prepare
from dmsr_cli.weights import save_weights
from pictures import check_contract, noise, save

MEMORY = 400 * 2**20
"""What the decoding process may need for a file that claims gigabytes."""


def bomb(size: int = 2**29) -> bytes:
    """Zeros, packed a thousand times smaller."""
    packer = zlib.compressobj(1)
    part = bytes(2**24)
    return b"".join([*(packer.compress(part) for _ in range(size // len(part))), packer.flush()])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 4, height: int = 4, deep: bool = False) -> bytes:
    """A sound picture with chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, 2, 0, 0, 0)
    rows = (b"\0" + bytes(4 * (6 if deep else 3))) * 4
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def saved(format_name: str, values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(values).save(file, format=format_name, **options)
    return file.getvalue()


def tiff(changes: dict[int, int], **options) -> bytes:
    """A TIFF whose tags have other first values."""
    file = io.BytesIO()
    tifffile.imwrite(file, noise(64, 64, 3), photometric="rgb", metadata=None, **options)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as reader:
        tags = reader.pages.first.tags
        for number, value in changes.items():
            width = {3: 2, 4: 4}[int(tags[number].dtype)]
            place = tags[number].valueoffset
            content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


def tiff_with_a_loop() -> bytes:
    """The directory names itself as the next one."""
    content = bytearray(tiff({}))
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    end = start + 2 + 12 * entries
    content[end : end + 4] = content[4:8]
    return bytes(content)


def tiff_with_counts_beyond_the_file() -> bytes:
    """Every tag says that it has four thousand million values."""
    content = bytearray(tiff({}))
    start = int.from_bytes(content[4:8], "little")
    for entry in range(int.from_bytes(content[start : start + 2], "little")):
        place = start + 2 + 12 * entry + 4
        content[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(content)


def claims(format_name: str, width: int, height: int) -> bytes:
    """A small picture whose header says that it is of this size."""
    side = 24
    content = saved(format_name, noise(side, side, 3))
    old, new = struct.pack(">II", side, side), struct.pack(">II", height, width)
    if format_name == "JPEG":
        old, new = struct.pack(">HH", side, side), struct.pack(">HH", height, width)
    elif format_name == "JPEG2000":
        content = changed(content, old, new)  # of the container; then of the code stream
        start = content.index(b"\xff\x4f\xff\x51")
        return content[: start + 8] + new + content[start + 16 :]
    elif format_name in ("AVIF", "HEIF"):
        start = content.index(b"ispe") + 8
        old, new = content[start : start + 8], struct.pack(">II", width, height)
    return changed(content, old, new)


def webp(width: int, height: int) -> bytes:
    """An animation on a large canvas with one small frame."""
    frame = saved("WEBP", noise(24, 24, 3))[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    place = bytes(6) + (23).to_bytes(3, "little") * 2 + (40).to_bytes(3, "little") + b"\0"
    parts = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    parts += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    parts += b"ANMF" + struct.pack("<I", 16 + len(frame)) + place + frame
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


HOSTILE = {
    "text.png": lambda: png(chunk(b"zTXt", b"Comment\0\0" + bomb())),
    "xmp.png": lambda: png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb())),
    "profile.png": lambda: png(chunk(b"iCCP", b"profile\0\0" + bomb())),
    "deep_text.png": lambda: png(chunk(b"zTXt", b"Comment\0\0" + bomb()), deep=True),
    "deep_profile.png": lambda: png(chunk(b"iCCP", b"profile\0\0" + bomb()), deep=True),
    "many_texts.png": lambda: png(*[chunk(b"zTXt", b"Comment\0\0" + bomb(2**24))] * 50),
    "pixels.png": lambda: changed(png(), zlib.compress((b"\0" + bytes(12)) * 4), bomb()),
    "wide.png": lambda: png(width=2**31 - 1, height=2**31 - 1),
    "almost.png": lambda: png(width=20_000, height=20_000),
    "wide.jpg": lambda: claims("JPEG", 65_500, 65_500),
    "almost.jpg": lambda: claims("JPEG", 20_000, 20_000)[:400],
    "wide.jp2": lambda: claims("JPEG2000", 2**31 - 1, 2**31 - 1),
    "almost.jp2": lambda: claims("JPEG2000", 5_000, 5_000),
    "wide.avif": lambda: claims("AVIF", 2**31 - 1, 2**31 - 1),
    "almost.avif": lambda: claims("AVIF", 20_000, 20_000),
    "wide.webp": lambda: webp(2**24, 2**8),
    "wide.ppm": lambda: b"P6 999999999 999999999 255\n" + bytes(100),
    "almost.ppm": lambda: b"P6 20000 20000 255\n" + bytes(100),
    "almost_deep.ppm": lambda: b"P6 20000 20000 65535\n" + bytes(100),
    "wide.bmp": lambda: changed(
        saved("BMP", noise(24, 25, 3)), struct.pack("<ii", 25, 24), struct.pack("<ii", 2**30, 2**30)
    ),
    "wide.gif": lambda: changed(
        gif(Drawn(WHOLE, 1), Drawn(WHOLE, 2)), struct.pack("<HH", *SIZE), b"\xff\xff\xff\xff"
    ),
    "wide.tif": lambda: tiff({256: 65_000, 257: 65_000}),
    "almost.tif": lambda: tiff({256: 20_000, 257: 20_000}),
    "almost_packed.tif": lambda: tiff({256: 20_000, 257: 20_000}, compression="zlib"),
    "large_tiles.tif": lambda: tiff({322: 65_520, 323: 65_520}, tile=(32, 32)),
    "large_packed_tiles.tif": lambda: tiff(
        {322: 65_520, 323: 65_520}, tile=(32, 32), compression="zlib"
    ),
    "small_tiles.tif": lambda: tiff({322: 0, 323: 0}, tile=(32, 32)),
    "strips.tif": lambda: tiff({278: 1}, compression="zlib"),
    "counts.tif": tiff_with_counts_beyond_the_file,
    "channels.tif": lambda: tiff({277: 65_535}),
    "bits.tif": lambda: tiff({258: 65_535}),
}
if "HEIF" in FORMATS:
    prepare(FORMATS["HEIF"])
    HOSTILE["wide.heic"] = lambda: claims("HEIF", 2**31 - 1, 2**31 - 1)
    HOSTILE["almost.heic"] = lambda: claims("HEIF", 20_000, 20_000)

REFUSED_BY_DECODERS = ("wide.avif", "wide.heic", "wide.jp2")
"""They have limits of their own, or see the contradiction, before the size is known here."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder() as decoder:
        yield decoder


def peak_memory(decoder: IsolatedDecoder, *, anew: bool = False) -> int:
    """Of the decoding process, in bytes; 0 where the system does not tell."""
    with decoder.worker() as worker:
        folder = Path(f"/proc/{worker.process_id}")
    if not folder.exists():
        return 0
    if anew:
        folder.joinpath("clear_refs").write_text("5")
    status = folder.joinpath("status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def outcome(decoder: IsolatedDecoder, path: Path) -> str:
    """What becomes of a picture: "read", or the line that says why not."""
    try:
        sequence = decoder.open_sequence(path)
        if sequence is None:
            check_contract(decoder.read_image(path))
            return "read"
        with sequence:
            for frame in sequence.frames():
                check_contract(frame.image)
        return "read"
    except ImageError as error:
        said = str(error)
    assert "\n" not in said
    assert path.name in said
    return said


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_and_little_memory(decoder, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HOSTILE[name]())
    decoder.read_image(save(tmp_path / "sound.png", noise(4, 5)))  # it has started
    peak_memory(decoder, anew=True)
    said = outcome(decoder, path)
    assert "decoder" not in said or "decoder error" in said  # it did not crash
    assert peak_memory(decoder) < MEMORY
    if name.startswith("wide"):
        assert "more than the limit" in said or name in REFUSED_BY_DECODERS
    if name.startswith(("wide", "almost")):
        assert said != "read"
    assert outcome(decoder, tmp_path / "sound.png") == "read"


def test_directories_in_a_circle_end(decoder, tmp_path):
    path = tmp_path / "loop.tif"
    path.write_bytes(tiff_with_a_loop())
    assert "page 1 (the first is 0)" in outcome(decoder, path)
    with open_sequence(path) as sequence:
        assert sequence.count == 1


def test_frames_without_end(decoder, tmp_path):
    piece = (coloured(*SIZE, 255, 0, 0, 255), (0, 0), 0, 0, 10)
    path = tmp_path / "a.png"
    path.write_bytes(apng(piece, piece, count=2**31 - 1))
    assert "choose fewer with --frames" in outcome(decoder, path)
    path.write_bytes(apng(piece, piece, count=1000))
    assert "frame 2 (the first is 0) is damaged or cut short" in outcome(decoder, path)


def test_a_few_bytes_for_many_large_frames(decoder, tmp_path):
    content = gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(100)))
    path = tmp_path / "a.gif"
    path.write_bytes(content[:6] + struct.pack("<HH", 20_000, 20_000) + content[10:])
    peak_memory(decoder, anew=True)
    assert "100 have more than 20000000000 pixels" in outcome(decoder, path)
    assert peak_memory(decoder) < MEMORY


def test_many_frames_take_the_memory_of_one(decoder, tmp_path):
    path, peaks = tmp_path / "a.gif", []
    for count in (3, 300):
        content = gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(count)))
        path.write_bytes(content[:6] + struct.pack("<HH", 300, 400) + content[10:])
        outcome(decoder, path)
        peak_memory(decoder, anew=True)
        assert outcome(decoder, path) == "read"
        peaks.append(peak_memory(decoder))
    assert peaks[1] - peaks[0] < 20 * 2**20  # all of them have 500 MiB


def test_strips_and_dots_are_restored(tmp_path, tiny_model, capsys):
    model = tmp_path / "tiny.safetensors"
    save_weights(tiny_model(2), model)
    sizes = [(1, 60_000), (60_000, 1), (1, 1)]
    for number, size in enumerate(sizes):
        save(tmp_path / f"{number}.png", noise(*size))
    inputs = [str(tmp_path / f"{number}.png") for number in range(3)]
    assert main(["upscale", *inputs, "--model", str(model)]) == 0, capsys.readouterr().err
    for number, (height, width) in enumerate(sizes):
        with PIL.Image.open(tmp_path / f"{number}_x2.png") as result:
            assert result.size == (2 * width, 2 * height)


# What is cut short, where that is allowed

CUT = {
    ".jpg": lambda: saved("JPEG", noise(200, 100, 3)),
    ".png": lambda: saved("PNG", noise(200, 100, 3)),
    ".gif": lambda: saved("GIF", noise(200, 100), interlace=0),
    ".bmp": lambda: saved("BMP", noise(200, 100, 3)),
}


@pytest.mark.parametrize("suffix", CUT)
def test_what_is_there_of_a_picture(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    content = CUT[suffix]()
    path.write_bytes(content)
    whole = read_image(path, Limits(allow_truncated=True))
    assert whole.warnings == ()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageError, match="cut short"):
        read_image(path)
    image = read_image(path, Limits(allow_truncated=True))
    check_contract(image)
    assert image.pixels.shape == whole.pixels.shape
    equal = np.mean((image.pixels == whole.pixels).all(axis=(1, 2)))
    assert 0.4 < equal < 0.9  # of all rows
    (warning,) = image.warnings
    assert "cut short" in warning


def test_deep_png_that_is_cut_short(tmp_path):
    path = tmp_path / "a.png"
    content = imagecodecs.png_encode(noise(200, 100, 3).astype(np.uint16) * 257)
    path.write_bytes(content[: len(content) // 2])
    image = read_image(path, Limits(allow_truncated=True))
    assert image.depth == 8
    assert image.pixels[:60].std() > 0.2


def test_frames_before_the_damage(tmp_path):
    content = gif(*(Drawn(WHOLE, 1 + n % 3) for n in range(5)))
    one = len(gif(Drawn(WHOLE, 1), Drawn(WHOLE, 2))) - len(gif(Drawn(WHOLE, 1)))
    path = tmp_path / "a.gif"
    path.write_bytes(content[: -one - 3])
    with open_sequence(path, Limits(allow_truncated=True)) as sequence:
        assert sequence.count == len(list(sequence.frames())) == 3
        assert any("cut short" in warning for warning in sequence.warnings)
    path.write_bytes(content)
    with open_sequence(path, Limits(allow_truncated=True)) as sequence:
        assert sequence.count == 5
        assert sequence.warnings == ()


@pytest.mark.parametrize("command", ["upscale", "estimate"])
def test_the_options(tmp_path, tiny_model, capsys, command):
    model = tmp_path / "tiny.safetensors"
    save_weights(tiny_model(2), model)
    cut, large = tmp_path / "cut.jpg", save(tmp_path / "large.png", noise(30, 40, 3))
    content = saved("JPEG", noise(30, 30, 3))
    cut.write_bytes(content[:-300])
    arguments = [command, str(cut), str(large), "--model", str(model)]
    assert main([*arguments, "--max-pixels", "0.001M"]) == 1
    said = capsys.readouterr().err
    assert "allow it with --max-pixels 1200" in said
    assert "cut.jpg: it is damaged or cut short" in said
    assert main([*arguments, "--max-pixels", "1200", "--allow-truncated"]) == 0
    assert "dmsr: warning: cut.jpg: it is damaged or cut short" in capsys.readouterr().err
    alone = [command, str(large), "--model", str(model), "--max-pixels", "1199"]
    alone += ["--overwrite"]
    assert main(alone) == 1
    assert "allow it with --max-pixels 1200" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1K", "0.1", "", "1e6"])
def test_numbers_of_pixels_that_are_none(text, capsys):
    assert main(["upscale", "a.png", "--max-pixels", text]) == 2
    assert "is not a number of pixels, as 800000000, 800M or 1.5G" in capsys.readouterr().err


def test_the_option_takes_what_a_message_advises(tmp_path, tiny_model, capsys):
    """PNG's largest picture: its header is a lie, but the number must not be called none."""
    model, path = tmp_path / "tiny.safetensors", save(tmp_path / "large.png", noise(3, 4, 3))
    save_weights(tiny_model(2), model)
    side = 2**31 - 1
    header = b"IHDR" + struct.pack(">II", side, side) + b"\x08\x02\x00\x00\x00"
    content = bytearray(path.read_bytes())
    content[12:33] = header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(content)
    arguments = ["upscale", str(path), "--model", str(model)]
    assert main(arguments) == 1
    assert f"allow it with --max-pixels {side**2}" in capsys.readouterr().err
    assert main([*arguments, "--max-pixels", str(side**2)]) == 1
    assert "large.png: " in capsys.readouterr().err
