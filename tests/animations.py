"""Small animations, made piece by piece so that each way of laying them together is there."""

import io
import struct
from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL import GifImagePlugin, PngImagePlugin

from dmsr_cli.images import Frame, Image

CLEAR, RED, GREEN, BLUE = 0, 1, 2, 3
COLOURS = np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]], np.uint8)
SIZE = (6, 4)
WHOLE = (0, 0, *SIZE)


@dataclass
class Drawn:
    """One piece of a GIF: a filled box."""

    box: tuple[int, int, int, int]
    colour: int
    disposal: int = 0
    duration: int = 100
    see_through: bool = True
    """Pixels of the number CLEAR are not drawn."""
    hole: tuple[int, int] | None = None


def gif(
    *drawn: Drawn,
    loop: int | None = None,
    comment: bytes | None = None,
    palette: bytes = COLOURS[:, :3].tobytes(),
) -> bytes:
    """A GIF with one palette: CLEAR is black where nothing says that it is see-through."""
    file = io.BytesIO()
    for number, piece in enumerate(drawn):
        left, top, right, bottom = piece.box
        values = np.full((bottom - top, right - left), piece.colour, np.uint8)
        if piece.hole:
            values[piece.hole] = CLEAR
        picture = PIL.Image.frombytes("P", values.shape[::-1], values.tobytes())
        picture.putpalette(palette)
        if number == 0:
            canvas = PIL.Image.new("P", SIZE)
            canvas.putpalette(palette)
            info = {"loop": loop, "comment": comment, "background": 1}
            file.writelines(GifImagePlugin.getheader(canvas, None, info)[0])
        options = {"duration": piece.duration, "disposal": piece.disposal}
        if piece.see_through:
            options["transparency"] = CLEAR
        file.writelines(GifImagePlugin.getdata(picture, (left, top), **options))
    return file.getvalue() + b";"


def apng(*pieces, hidden=None, loop: int = 0, count: int | None = None) -> bytes:
    """An APNG of (RGBA or grey array, (left, top), disposal, blending, hundredths) pieces.

    `hidden` is a still that is no part of the animation. The first piece covers the canvas.
    """
    file, numbers = io.BytesIO(b""), iter(range(99))
    file.write(b"\x89PNG\r\n\x1a\n")
    put = PngImagePlugin.putchunk
    first = PngImagePlugin.getchunks(
        PIL.Image.fromarray(pieces[0][0] if hidden is None else hidden)
    )
    for name, data, _ in first:
        if name == b"IDAT":
            put(file, b"acTL", struct.pack(">II", count or len(pieces), loop))
            if hidden is not None:
                put(file, name, data)
        elif name != b"IEND":
            put(file, name, data)
    for number, (values, (left, top), disposal, blending, hundredths) in enumerate(pieces):
        place = struct.pack(">IIIII", next(numbers), values.shape[1], values.shape[0], left, top)
        put(file, b"fcTL", place, struct.pack(">HHBB", hundredths, 100, disposal, blending))
        for name, data, _ in PngImagePlugin.getchunks(PIL.Image.fromarray(values)):
            if name == b"IDAT" and number == 0 and hidden is None:
                put(file, b"IDAT", data)
            elif name == b"IDAT":
                put(file, b"fdAT", struct.pack(">I", next(numbers)), data)
    put(file, b"IEND")
    return file.getvalue()


def rgba(frame: Frame) -> np.ndarray:
    """Bytes of a frame, with 255 where it has no alpha and 0 where nothing is seen."""
    image = frame.image
    alpha = np.ones(image.pixels.shape[:2], np.float32) if image.alpha is None else image.alpha
    both = np.concatenate([image.pixels * (alpha > 0)[..., None], alpha[..., None]], axis=2)
    return np.rint(both * 255).astype(np.uint8)


def moving(count: int = 4, height: int = 24, width: int = 32, *, alpha: bool = False, **of_image):
    """Frames, one by one: a gradient, a box that moves over it, a growing hole with `alpha`."""
    rows, columns = np.mgrid[0:height, 0:width]
    for number in range(count):
        pixels = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], 2)
        pixels[4:12, 3 + 2 * number : 11 + 2 * number] = (1, 0.2, 0.1)
        opacity = None
        if alpha:
            opacity = np.ones((height, width), np.float32)
            opacity[-6:, : 4 + 2 * number] = 0
        image = Image(pixels.astype(np.float32), opacity, **of_image)
        yield Frame(image, 40.0 + 10 * number)


def coloured(width: int, height: int, *colour: int) -> np.ndarray:
    return np.full((height, width, 4), colour, np.uint8)
