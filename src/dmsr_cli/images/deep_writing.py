"""PNG files of 16 bit per channel, which Pillow writes for grey alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.PngImagePlugin import getchunks

_START = 33
"""Bytes of the signature and of the first chunk, after which the others may stand."""
_PIXEL_CHUNKS = (b"IHDR", b"IDAT", b"IEND")


def encode_png(samples: NDArray[np.uint16], options: dict[str, Any]) -> list[bytes | memoryview]:
    """The parts of a PNG file of samples, height x width or height x width x 2, 3 or 4.

    `options` are what Pillow is told about metadata when it saves a PNG.
    """
    import imagecodecs

    png = imagecodecs.PNG
    # On restored photographs a sixth of the time of the default (level 6, all filters) at 0.97 and
    # 1.09 of the size; all filters with this strategy take 0.3 of the time and save nothing.
    encoded = memoryview(
        imagecodecs.png_encode(
            np.ascontiguousarray(samples),
            level=1,
            strategy=png.STRATEGY.RLE,
            filter=png.FILTER.PAETH,
        )
    )
    mode = "L" if samples.ndim == 2 or samples.shape[2] == 2 else "RGB"
    chunks = getchunks(PIL.Image.new(mode, (1, 1)), **options)
    metadata = [
        part
        for kind, data, checksum in chunks
        if kind not in _PIXEL_CHUNKS
        for part in (len(data).to_bytes(4, "big"), kind, data, checksum)
    ]
    return [encoded[:_START], *metadata, encoded[_START:]]
