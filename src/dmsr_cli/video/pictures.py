"""Video frames of PyAV as arrays of RGB, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dmsr_cli.errors import ImageError
from dmsr_cli.images import LUMA_WEIGHTS, FloatArray, Samples
from dmsr_cli.images.planes import STRIP_PIXELS, as_float
from dmsr_cli.video.colour import (
    BT709,
    LUMA_SHARES,
    UNSPECIFIED,
    Colour,
    grey_of_plane,
    planes_of_rgb,
    rgb_of_planes,
    usual_matrix,
)

if TYPE_CHECKING:
    from av import VideoFormat
    from av import VideoFrame as Picture
    from av.video.plane import VideoPlane
    from av.video.stream import VideoStream

_FULL_RANGE = 2  # of FFmpeg, as are the numbers of the matrices
_SAMPLINGS = {(1, 1): 444, (2, 1): 422, (2, 2): 420, (1, 2): 440, (4, 1): 411, (4, 4): 410}


def colour_of(picture: Picture, stream: VideoStream) -> tuple[Colour, bool]:
    """What the numbers of a decoded picture mean, and False if its matrix is none that we have."""
    context, pixel_format = stream.codec_context, picture.format
    is_rgb = pixel_format.is_rgb or pixel_format.has_palette
    matrix = int(picture.colorspace)
    supported = is_rgb or matrix in (*LUMA_SHARES, UNSPECIFIED)
    if is_rgb:
        matrix = BT709
    elif matrix not in LUMA_SHARES:
        matrix = usual_matrix(picture.width, picture.height)
    full_range = int(picture.color_range) == _FULL_RANGE or pixel_format.name.startswith("yuvj")
    colour = Colour(
        matrix,
        full_range and not is_rgb,
        int(context.color_primaries),
        int(context.color_trc),
        centred=context.name == "mjpeg",
    )
    return colour, supported


def rgb_of(picture: Picture, colour: Colour) -> FloatArray:
    """The pixels of a decoded picture as it lies in the stream, float32 RGB in [0, 1].

    Raises:
        ImageError: its pixel format is none of usual clips.
    """
    name = _planar(picture.format)
    # libswscale only unpacks here: it neither scales nor converts colours.
    picture = picture if picture.format.name == name else picture.reformat(format=name)
    bits = picture.format.components[0].bits
    if name.startswith("gbr"):
        green, blue, red = (view(plane, bits) for plane in picture.planes[:3])
        white = np.float32((1 << bits) - 1)
        pixels: FloatArray = np.stack([red, green, blue], axis=2).astype(np.float32) / white
        return pixels
    planes = [view(plane, bits) for plane in picture.planes[:3]]
    if is_grey(picture.format):
        return grey_of_plane(planes[0], bits, colour.full_range)
    return rgb_of_planes(planes, bits, colour, _factors(picture.format))


def is_grey(pixel_format: VideoFormat) -> bool:
    """It has no colours."""
    return pixel_format.name.startswith(("gray", "ya", "mono"))


def has_alpha(pixel_format: VideoFormat) -> bool:
    """It has transparency."""
    return any(component.is_alpha for component in pixel_format.components)


def view(plane: VideoPlane, bits: int) -> NDArray[Any]:
    """A plane as an array, height x width; what is written into it is in the picture."""
    kind = np.dtype(np.uint8 if bits == 8 else "<u2")
    lines: NDArray[Any] = np.frombuffer(memoryview(plane), dtype=kind)
    return lines.reshape(-1, plane.line_size // kind.itemsize)[: plane.height, : plane.width]


def fill(picture: Picture, pixels: Samples, colour: Colour, grey: bool) -> None:
    """Put RGB, height x width x 3, into a picture of planar YUV with at most a line more.

    What is missing at the right and below is repeated. With `grey`, all colour is taken out.

    Raises:
        ImageError: a value is not finite.
    """
    planes = picture.planes
    bits = picture.format.components[0].bits
    factors = (picture.width // planes[1].width, picture.height // planes[1].height)
    height, width = pixels.shape[:2]
    step = max(2, STRIP_PIXELS // width // 2 * 2)
    for top in range(0, height, step):
        strip = as_float(pixels[top : top + step])
        if grey:
            strip = np.repeat((strip @ LUMA_WEIGHTS)[..., None], 3, axis=2)
        below = picture.height - height if top + step >= height else 0
        strip = np.pad(strip, ((0, below), (0, picture.width - width), (0, 0)), mode="edge")
        for plane, values in zip(planes, planes_of_rgb(strip, bits, colour, factors), strict=True):
            first = top * plane.height // picture.height
            view(plane, bits)[first : first + len(values)] = values


def _planar(pixel_format: VideoFormat) -> str:
    """Name of the pixel format with the same numbers, of integers, each channel in its plane."""
    name = pixel_format.name
    bits = max((part.bits for part in pixel_format.components), default=0)
    native = not name.endswith("be") and bits <= 16
    if pixel_format.is_rgb or pixel_format.has_palette:
        return name if native and name.startswith("gbrp") else "gbrp" if bits <= 8 else "gbrp16le"
    if is_grey(pixel_format):
        return name if native and name.startswith("gray") else "gray" if bits <= 8 else "gray16le"
    if native and name.startswith("yuv") and pixel_format.is_planar:
        return name
    sampling = _SAMPLINGS.get(_factors(pixel_format))
    if sampling is None or not 8 <= bits <= 16 or name.startswith("xyz"):
        raise ImageError(f"its pixels are {name}, which cannot be read; convert it to H.264 first")
    return f"yuv{sampling}p" + ("" if bits == 8 else f"{bits}le")


def _factors(pixel_format: VideoFormat) -> tuple[int, int]:
    """Columns and rows of pixels that share a sample of chroma."""
    return 16 // pixel_format.chroma_width(16), 16 // pixel_format.chroma_height(16)
