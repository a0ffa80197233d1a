"""What a picture of each format still has after `dmsr upscale`: the table of docs/formats.md.

    python tests/round_trips.py     runs every round trip and writes the table into the page

A sample is written with Pillow, tifffile or imagecodecs, enlarged by the command line with a tiny
network, and looked at with Pillow or imagecodecs again: no line of the table is taken on trust.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray
from PIL import ImageCms, ImageSequence, PngImagePlugin, TiffImagePlugin

from dmsr_cli.cli.main import main
from dmsr_cli.images.formats import FORMATS, prepare
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"
BEGIN, END = "<!-- round trips: begin -->\n", "<!-- round trips: end -->\n"
COLUMNS = ("Format", "Out", "Grey", "16 bit", "Alpha", "ICC", "EXIF", "XMP", "DPI", "Frames")
SCALE = 2
WIDTH, HEIGHT = 24, 16
MAKER = "Round Trip"
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="round trip"/>'
    b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOOP = 3
DURATIONS = [100, 200, 300]  # milliseconds
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Row:
    """One format: the suffix of its samples, and what Pillow can put into them."""

    title: str
    suffix: str
    icc: bool = True
    exif: bool = True
    xmp: bool = True
    dpi: bool = True
    alpha: bool = True
    grey: bool = True
    frames: bool = False
    pages: bool = False
    deep: Callable[[NDArray[np.uint16]], bytes] | None = None


def deep_png(pixels: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.png_encode(pixels))


def deep_tiff(pixels: NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", compression="zlib")
    return buffer.getvalue()


def deep_ppm(pixels: NDArray[np.uint16]) -> bytes:
    head = b"P6 %d %d 65535\n" % (pixels.shape[1], pixels.shape[0])
    return head + pixels.astype(">u2").tobytes()


def deep_pgm(pixels: NDArray[np.uint16]) -> bytes:
    head = b"P5 %d %d 65535\n" % (pixels.shape[1], pixels.shape[0])
    return head + pixels[..., 1].astype(">u2").tobytes()


def deep_jpeg_2000(pixels: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"))


def deep_avif(pixels: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.avif_encode(pixels >> 6, level=95, bitspersample=10))


def deep_heif(pixels: NDArray[np.uint16]) -> bytes:
    import pillow_heif

    size, buffer = (pixels.shape[1], pixels.shape[0]), io.BytesIO()
    picture = pillow_heif.from_bytes(mode="RGB;16", size=size, data=pixels.tobytes())
    picture.save(buffer, quality=95)  # 10 bit
    return buffer.getvalue()


ROWS = (
    Row("PNG, APNG", ".png", frames=True, deep=deep_png),
    Row("JPEG", ".jpg", alpha=False),
    Row("WebP", ".webp", grey=False, dpi=False, frames=True),
    Row("TIFF", ".tif", pages=True, deep=deep_tiff),
    Row("BMP", ".bmp", icc=False, exif=False, xmp=False, alpha=False),
    Row("GIF", ".gif", icc=False, exif=False, xmp=False, dpi=False, frames=True),
    Row("PPM", ".ppm", False, False, False, False, alpha=False, grey=False, deep=deep_ppm),
    Row("PGM", ".pgm", False, False, False, False, alpha=False, deep=deep_pgm),
    Row("JPEG 2000", ".jp2", False, False, False, False, deep=deep_jpeg_2000),
    Row("AVIF", ".avif", grey=False, dpi=False, frames=True, deep=deep_avif),
    Row("HEIF", ".heic", grey=False, dpi=False, deep=deep_heif),
)


class Bench:
    """A folder with a tiny network, in which pictures are enlarged by the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "tiny.safetensors"
        save_weights(tiny_model(scale=SCALE), self.weights)

    def enlarged(self, sample: bytes, suffix: str, to_suffix: str = "") -> Path:
        """The result for one file, of its format or another; it must be there."""
        source = self.folder / f"sample{suffix}"
        result = self.folder / f"sample_x{SCALE}{to_suffix or suffix}"
        source.write_bytes(sample)
        arguments = ["upscale", str(source), "-o", str(result), "--model", str(self.weights)]
        assert main([*arguments, "--overwrite", "--device", "cpu"]) == 0, f"{suffix} failed"
        return result


def colour_ramp(mode: str = "RGB") -> PIL.Image.Image:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [rows * 15, columns * 10, (rows + columns) * 6, 255 * (columns > WIDTH // 2)]
    pixels = np.stack(planes, axis=2).astype(np.uint8)
    return PIL.Image.fromarray(pixels).convert(mode)


def saved(picture: PIL.Image.Image, suffix: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=PIL.Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


def with_metadata(row: Row) -> bytes:
    """A sample with all that the format can carry."""
    exif = PIL.Image.Exif()
    exif[0x010F] = MAKER
    options: dict[str, object] = {}
    if row.icc:
        options["icc_profile"] = PROFILE
    if row.exif:
        options["exif"] = exif
    if row.dpi:
        options["dpi"] = (300, 300)
    if row.xmp and row.suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    elif row.xmp and row.suffix == ".tif":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[700] = XMP
        tags[0x010F] = MAKER
        options["tiffinfo"] = tags
        del options["exif"]
    elif row.xmp:
        options["xmp"] = XMP
    return saved(colour_ramp("L" if row.suffix == ".pgm" else "RGB"), row.suffix, **options)


def measured(row: Row, bench: Bench) -> list[str]:
    """The cells of one format, from real round trips."""
    plain = bench.enlarged(with_metadata(row), row.suffix)
    with PIL.Image.open(plain) as picture:
        assert picture.size == (WIDTH * SCALE, HEIGHT * SCALE)
        assert picture.format in plain_formats(row)
        dots = picture.info.get("dpi", (0, 0))
        cells = [
            YES if picture.info.get("icc_profile") == PROFILE else NO,
            YES if picture.getexif().get(0x010F) == MAKER else NO,
            YES if b"round trip" in xmp_of(picture) else NO,
            YES if abs(float(dots[0]) - 300) < 1 else NO,
        ]
    return [
        f"{row.title} (`{row.suffix}`)",
        YES,
        grey_kept(row, bench),
        depth_kept(row, bench),
        alpha_kept(row, bench),
        *cells,
        frames_kept(row, bench),
    ]


def plain_formats(row: Row) -> set[str]:
    return {PIL.Image.registered_extensions()[row.suffix]}


def xmp_of(picture: PIL.Image.Image) -> bytes:
    value = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    return value.encode() if isinstance(value, str) else bytes(value)


def grey_kept(row: Row, bench: Bench) -> str:
    if not row.grey:
        return NO
    with PIL.Image.open(bench.enlarged(saved(colour_ramp("L"), row.suffix), row.suffix)) as picture:
        return YES if picture.mode == "L" else NO


def depth_kept(row: Row, bench: Bench) -> str:
    """Whether a ramp too fine for 8 bit comes out with more than 256 levels; or as PNG: "in"."""
    if row.deep is None:
        return NO
    levels = np.linspace(20_000, 24_000, HEIGHT * WIDTH * 3).astype(np.uint16)
    sample = row.deep(levels.reshape(HEIGHT, WIDTH, 3))
    for suffix, answer in ((row.suffix, YES), (".png", "in")):
        path = bench.enlarged(sample, row.suffix, suffix)
        if suffix in (".png", ".tif"):  # the others hold no more than 8 bit as this tool writes
            stored = tifffile.imread(path) if suffix == ".tif" else imagecodecs.imread(path)
            if stored.dtype == np.uint16 and len(np.unique(stored)) > 256:
                return answer
    return NO


def alpha_kept(row: Row, bench: Bench) -> str:
    if not row.alpha:
        return NO
    sample = saved(colour_ramp("RGBA"), row.suffix)
    with PIL.Image.open(bench.enlarged(sample, row.suffix)) as picture:
        if not picture.has_transparency_data:
            return NO
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha[:, -2:].min() > 250
    assert alpha[:, :2].max() < 5
    return "1 bit" if set(np.unique(alpha)) == {0, 255} else YES


def frames_kept(row: Row, bench: Bench) -> str:
    if not row.frames and not row.pages:
        return NO
    pictures = [colour_ramp().rotate(number * 90) for number in range(3)]
    options: dict[str, object] = {"save_all": True, "append_images": pictures[1:]}
    if row.frames:
        options |= {"duration": DURATIONS, "loop": LOOP}
    path = bench.enlarged(saved(pictures[0], row.suffix, **options), row.suffix)
    with PIL.Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 3
        if row.pages:
            return "pages"
        assert [duration_of(frame) for frame in ImageSequence.Iterator(picture)] == DURATIONS
        assert picture.info.get("loop", LOOP) == LOOP  # Pillow cannot tell that of AVIF
    return "animation"


def duration_of(frame: PIL.Image.Image) -> float:
    frame.load()  # WebP tells it only then
    return float(frame.info["duration"])


def table() -> str:
    """The table, from round trips that happen now."""
    for known in FORMATS.values():
        prepare(known)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        lines += ["| " + " | ".join(measured(row, bench)) + " |" for row in ROWS]
    return "\n".join(lines) + "\n"


def with_table(page: str, text: str) -> str:
    """The page with the table in its place."""
    assert page.count(BEGIN) == page.count(END) == 1
    return re.sub(f"{BEGIN}.*{END}", lambda match: BEGIN + text + END, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), table()), "utf-8")
