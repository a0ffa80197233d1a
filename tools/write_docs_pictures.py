"""Make the pictures of docs/photographs.md from the samples, with the bundled x4 model.

    python tools/write_docs_pictures.py

Each shows a part of a sample enlarged plainly (bicubic), and what the options make of it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import dmsr_cli as dmsr
from dmsr_cli.images import Image
from dmsr_cli.pipeline import Degradation, Model
from dmsr_cli.visual.layout import Pixels, side_by_side, stacked
from dmsr_cli.visual.painting import Window, paint_enlarged
from dmsr_cli.visual.text import text_picture

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TARGET = ROOT / "docs" / "images"
QUALITY = 90
"""Of the files: JPEG has a tenth of a PNG's bytes, and shows nothing of its own at this size."""
LETTERS = Window(top=390, left=600, height=280, width=300)
"""Of the enlarged street sign: the end of its first word."""
EYE = Window(top=270, left=480, height=280, width=300)


def main() -> None:
    """Write the three pictures."""
    model = dmsr.load_model("dmsr-lite-x4")
    cat = dmsr.read_image(EXAMPLES / "cat_noisy.png")
    found = dmsr.estimate(cat, model)
    denoised = {f"--denoise {factor}": found.with_denoise(factor) for factor in (0, 1, 2)}
    _write("denoise.jpg", cat, EYE, denoised, model)
    sign = dmsr.read_image(EXAMPLES / "streetsign.png")
    found = dmsr.estimate(sign, model)
    widths = {f"--kernel-width {width}": found.with_kernel_width(width) for width in (0.5, 2.5)}
    _write("kernel_width.jpg", sign, LETTERS, {"as estimated": found, **widths}, model)
    packed = _as_jpeg(sign, quality=20)
    _write("jpeg_blocks.jpg", packed, LETTERS, {"after": dmsr.estimate(packed, model)}, model)


def _as_jpeg(image: Image, quality: int) -> Image:
    file = io.BytesIO()
    dmsr.write_image(image, file, format="jpeg", quality=quality)
    file.seek(0)
    return dmsr.read_image(file)


def _write(
    name: str, image: Image, window: Window, ways: Mapping[str, Degradation], model: Model
) -> None:
    """Write what each way makes of a window of the picture, beside the window before."""
    before = np.empty((window.height, window.width, 3), np.float32)
    size = (image.height * model.scale, image.width * model.scale)
    paint_enlarged(before, image, window, *size)
    columns = [_under_its_name("before (bicubic)", before)]
    for way, degradation in ways.items():
        result = dmsr.upscale(image, model, degradation)
        columns.append(_under_its_name(way, result.pixels[window.rows, window.columns]))
    widths = [column.shape[1] for column in columns]
    dmsr.write_image(side_by_side(columns, widths), TARGET / name, quality=QUALITY)


def _under_its_name(name: str, picture: Pixels) -> Pixels:
    return stacked([text_picture(name, 26), picture])


if __name__ == "__main__":
    main()
