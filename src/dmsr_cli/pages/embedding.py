"""Pictures in a page: shrunk, encoded, and as data: addresses."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dmsr_cli.images import Image, Samples
from dmsr_cli.images.planes import as_bytes
from dmsr_cli.images.stored_colour import with_srgb_colours
from dmsr_cli.pages.markup import Markup, element

Bytes = NDArray[np.uint8]

_OVERSAMPLING = 4
"""A picture is thinned out to so many times the pixels that are wanted before it is averaged: one
of 100 megapixels would take a second, and a copy in memory."""
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


def small_picture(image: Image, limit: int) -> Bytes:
    """A picture as people see it, in sRGB and on white where it is transparent, made small.

    Args:
        image: any.
        limit: of the longer side; what is smaller keeps its size.

    Returns:
        (h, w, 3) uint8.
    """
    step = max(1, max(image.height, image.width) // (_OVERSAMPLING * limit))
    alpha = None if image.alpha is None else image.alpha[::step, ::step]
    picture = shown(image, image.pixels[::step, ::step], alpha)
    return np.asarray(shrunk(picture, limit))


def shown(image: Image, pixels: Samples, alpha: Samples | None) -> PIL.Image.Image:
    """Some pixels of a picture as they are seen: of mode RGB, in sRGB, on white.

    Args:
        image: says which colours they mean.
        pixels: (h, w, 3), of any of the types of `Image`.
        alpha: (h, w), their opacity.
    """
    picture = with_srgb_colours(PIL.Image.fromarray(np.ascontiguousarray(as_bytes(pixels))), image)
    if alpha is None:
        return picture
    page = PIL.Image.new("RGB", picture.size, "white")
    page.paste(picture, mask=PIL.Image.fromarray(np.ascontiguousarray(as_bytes(alpha))))
    return page


def shrunk(picture: PIL.Image.Image, limit: int) -> PIL.Image.Image:
    """A picture whose longer side is at most `limit`."""
    share = limit / max(picture.size)
    if share >= 1:
        return picture
    width, height = (max(1, math.floor(side * share + 0.5)) for side in picture.size)
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)


def photo_file(pixels: Bytes, quality: int) -> bytes:
    """A photograph (h, w, 3), or (h, w), as a JPEG without thinned colours."""
    return _encoded(pixels, "JPEG", quality=quality, subsampling=0)


def exact_file(pixels: Bytes) -> bytes:
    """A picture (h, w), (h, w, 3) or (h, w, 4) without loss, as a PNG."""
    return _encoded(pixels, "PNG")


def picture_element(data: bytes, text: str, width: int, height: int, class_: str) -> Markup:
    """An encoded picture as an element that is drawn when it comes into view.

    Args:
        data: a PNG or a JPEG.
        text: what it shows, for those who do not see it; empty for what is only an ornament.
        width: of the element, in pixels, unless the style sheet has another.
        height: the same.
        class_: for the style sheet.
    """
    return element(
        "img",
        class_=class_,
        alt=text,
        width=width,
        height=height,
        loading="lazy",
        draggable="false",  # else the browser drags the picture, not the divider above it
        decoding="async",
        src=data_address(data),
    )


def data_address(data: bytes) -> str:
    """The bytes of a PNG or a JPEG as an address."""
    kind = next(kind for beginning, kind in _SIGNATURES.items() if data.startswith(beginning))
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(pixels: Bytes, format: str, **options: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()
