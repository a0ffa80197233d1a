"""A photo in grey, and over it, in colours, where the result does not explain it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dmsr_cli.images import LUMA_WEIGHTS

Pixels = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LONGEST_SIDE = 2048
"""Of larger photos only every second pixel is shown, or every third: this is to be looked at."""
SHORTEST_WIDTH = 256
"""So that there is room for the legend: small photos are enlarged, tall ones get a white edge."""
MOST = 4.0
"""Times as much as expected: the end of the scale."""
HEAT = np.array([[255, 255, 255], [254, 217, 118], [253, 141, 60], [227, 26, 28], [128, 0, 38]])
"""From as expected, which leaves the photo as it is, to `MOST`: ever darker."""
BAR_HEIGHT = 10
TEXT_HEIGHT = 12
MARGIN = 4


def consistency_overlay(photo: Pixels, strength: Pixels) -> Bytes:
    """Multiply a grey photo by colours for what is left unexplained; a legend stands below.

    Args:
        photo: (h, w, 3) float32 in [0, 1].
        strength: (h, w) float32, the map of a `Consistency`.

    Returns:
        uint8 RGB.
    """
    step = -(-max(strength.shape) // LONGEST_SIDE)
    shown, strength = photo[::step, ::step], strength[::step, ::step]
    # Lightened, or the colours would not be seen in the dark.
    grey = 0.3 + 0.7 * np.clip(shown @ LUMA_WEIGHTS, 0, 1)
    picture = np.rint(grey[..., None] * _colours(strength)).astype(np.uint8)
    factor = max(1, SHORTEST_WIDTH // max(picture.shape[:2]))
    enlarged = picture.repeat(factor, 0).repeat(factor, 1)
    edge = max(0, SHORTEST_WIDTH - enlarged.shape[1])
    widened = np.pad(enlarged, ((0, 0), (0, edge), (0, 0)), constant_values=255)
    return np.concatenate([widened, _legend(widened.shape[1])])


def _colours(strength: Pixels) -> NDArray[np.float32]:
    """(..., 3), 0 to 255; up to 1 it is white."""
    places = np.linspace(1, MOST, len(HEAT))
    channels = [np.interp(strength, places, HEAT[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _legend(width: int) -> Bytes:
    """The bar of colours with its numbers, on white."""
    font = ImageFont.load_default(size=TEXT_HEIGHT)
    picture = PillowImage.new("RGB", (width, BAR_HEIGHT + TEXT_HEIGHT + 4 * MARGIN), "white")
    bar = _colours(np.linspace(1, MOST, width - 2 * MARGIN, dtype=np.float32))[None]
    picture.paste(
        PillowImage.fromarray(np.rint(bar.repeat(BAR_HEIGHT, 0)).astype(np.uint8)),
        (MARGIN, MARGIN),
    )
    draw, top = ImageDraw.Draw(picture), BAR_HEIGHT + 2 * MARGIN
    draw.text((MARGIN, top), "unexplained: as expected", "black", font)
    draw.text((width - MARGIN, top), f"x {MOST:g} or more", "black", font, anchor="ra")
    return np.asarray(picture)
