"""Turns the pieces that GIF and APNG store into whole frames, as a browser shows them.

Pillow decodes the pieces. It is not asked to lay them over each other: it keeps what a GIF clears,
because its canvas has no opacity where the first frame has none, and it mixes a half transparent
piece of an APNG as if the canvas below were opaque.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import PIL.Image
from PIL import GifImagePlugin, PngImagePlugin

from dmsr_cli.errors import ImageError
from dmsr_cli.images.planes import as_bytes

Box = tuple[int, int, int, int]


class Disposal(Enum):
    """What becomes of a piece before the next frame is drawn."""

    KEEP = 0
    CLEAR = 1
    RESTORE = 2


@dataclass(frozen=True)
class Piece:
    """The part of the canvas that one frame changes."""

    picture: PIL.Image.Image
    """Of mode LA or RGBA."""
    place: Box
    over: bool
    """Laid over what is there; else put in its place, transparency and all."""
    disposal: Disposal
    duration: float
    """Milliseconds."""


def compose(
    pieces: Iterator[Piece], mode: str, size: tuple[int, int]
) -> Iterator[tuple[PIL.Image.Image, float]]:
    """Whole frames of mode LA or RGBA with their durations; the canvas starts transparent."""
    canvas = PIL.Image.new(mode, size)
    for piece in pieces:
        before = canvas.copy() if piece.disposal is Disposal.RESTORE else canvas
        if piece.over:
            canvas.alpha_composite(piece.picture, piece.place[:2])
        else:
            canvas.paste(piece.picture, piece.place)
        yield canvas.copy(), piece.duration
        if piece.disposal is Disposal.CLEAR:
            canvas.paste(PIL.Image.new(mode, piece.picture.size), piece.place)
        canvas = before


class GifPieces(GifImagePlugin.GifImageFile):
    """Pillow's GIF decoder, brought to give each piece alone."""

    ends_well = False
    """The mark of the end was found after the last frame; known once a seek went beyond it."""

    def _is_palette_needed(self, p: bytes) -> bool:
        # Without it a palette of greys in order makes a picture without one, which has no alpha.
        return True

    def _seek(self, frame: int, update_image: bool = True) -> None:
        try:
            super()._seek(frame, update_image)
        except EOFError:
            assert self.fp is not None
            self.fp.seek(-1, 1)
            self.ends_well = self.fp.read(1) == b";"
            raise

    def pieces(self, count: int) -> Iterator[Piece]:
        """The first pieces; for a decoder that was just opened."""
        for index in range(count):
            if index:
                # Pillow lets the disposal of a frame that names none follow the one before.
                self.disposal_method, self.dispose = 0, None
                self.seek(index)
                if self.mode not in ("RGB", "RGBA"):
                    raise ImageError("it has no palette")
                self.im = PIL.Image.new("RGBA", self.size).im  # nothing below
            place = self.dispose_extent
            assert place is not None
            disposal = {2: Disposal.CLEAR, 3: Disposal.RESTORE}.get(
                self.disposal_method, Disposal.KEEP
            )
            duration = float(self.info.get("duration", 0))
            picture = self.crop(place).convert("RGBA")
            yield Piece(picture, place, True, disposal, duration)


def png_pieces(picture: PngImagePlugin.PngImageFile) -> Iterator[Piece]:
    """All pieces of an animated PNG that was just opened, without a still that is no part of it."""
    mode = canvas_mode(picture)
    for index in range(int(picture.default_image), picture.n_frames):
        picture.seek(index)
        info = picture.info
        picture.blend_op = PngImagePlugin.Blend.OP_SOURCE
        place, over = info["bbox"], info["blend"] == PngImagePlugin.Blend.OP_OVER
        disposal = {1: Disposal.CLEAR, 2: Disposal.RESTORE}.get(info["disposal"], Disposal.KEEP)
        duration = float(info["duration"])
        piece = picture.crop(place)  # decodes
        if piece.mode.startswith("I;16"):
            piece = PIL.Image.fromarray(as_bytes(np.asarray(piece)))
        yield Piece(piece.convert(mode), place, over, disposal, duration)


def canvas_mode(picture: PIL.Image.Image) -> str:
    """The mode in which the frames of a decoder are composed."""
    return "LA" if picture.mode in ("1", "L", "LA") or picture.mode.startswith("I") else "RGBA"
