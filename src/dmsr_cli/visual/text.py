"""Text as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from dmsr_cli.visual.layout import Pixels, grey_picture

TEXT_HEIGHT = 14
"""Font size of labels, in pixels."""
SPACE_ABOVE_TEXT = 5
"""So that a label is nearer to the row that it belongs to than to the one above."""


def text_picture(text: str, height: int = TEXT_HEIGHT) -> Pixels:
    """One line in black on white, in Pillow's own font, which needs no file."""
    font = ImageFont.load_default(size=height)
    left, _, right, _ = font.getbbox(text)
    bottom = font.getbbox(f"{text}gj|")[3]  # one height and baseline, whatever the letters
    size = (math.ceil(right - left), SPACE_ABOVE_TEXT + math.ceil(bottom))
    picture = PillowImage.new("L", size, 255)
    ImageDraw.Draw(picture).text((-left, SPACE_ABOVE_TEXT), text, fill=0, font=font)
    return grey_picture(np.asarray(picture, np.float32) / np.float32(255), 1)


def paragraph(text: str, width: int) -> Pixels:
    """Text in lines that are at most `width` pixels wide, of at least one letter each.

    A word that is too long for a line is cut, anywhere.

    Returns:
        float32 (height, width, 3), black on white.
    """
    font = ImageFont.load_default(size=TEXT_HEIGHT)

    def fits(line: str) -> bool:
        left, _, right, _ = font.getbbox(line)
        return math.ceil(right - left) <= width

    lines = [text_picture(line)[:, :width] for line in _broken(text.split(), fits)]
    padding = [((0, 0), (0, width - line.shape[1]), (0, 0)) for line in lines]
    return np.concatenate(
        [np.pad(line, pad, constant_values=1) for line, pad in zip(lines, padding, strict=True)]
    )


def _broken(words: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """Words in lines that fit."""
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return lines
