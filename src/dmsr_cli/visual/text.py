"""Text as a picture."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dmsr_cli.visual.layout import Pixels, grey_picture

TEXT_HEIGHT = 14
"""Font size of labels, in pixels."""
SPACE_ABOVE_TEXT = 5
"""So that a label is nearer to the row that it belongs to than to the one above."""


def text_picture(text: str) -> Pixels:
    """One line in black on white, in Pillow's own font, which needs no file."""
    font = ImageFont.load_default(size=TEXT_HEIGHT)
    left, _, right, _ = font.getbbox(text)
    bottom = font.getbbox(f"{text}gj|")[3]  # one height and baseline, whatever the letters
    size = (math.ceil(right - left), SPACE_ABOVE_TEXT + math.ceil(bottom))
    picture = PillowImage.new("L", size, 255)
    ImageDraw.Draw(picture).text((-left, SPACE_ABOVE_TEXT), text, fill=0, font=font)
    return grey_picture(np.asarray(picture, np.float32) / np.float32(255), 1)
