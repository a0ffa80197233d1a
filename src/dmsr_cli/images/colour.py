"""Colour profiles: which colours the numbers of a picture mean."""

from __future__ import annotations

import io

import PIL.Image
from PIL import ImageCms

_SPACE_OF_MODE = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}


def to_srgb(picture: PIL.Image.Image, icc_profile: bytes) -> PIL.Image.Image | None:
    """A picture of mode L, RGB, CMYK or LAB, 8 bit, as RGB with sRGB colours.

    Returns None where that cannot be: the profile is damaged or of another colour space than the
    picture, or Pillow was built without littlecms.
    """
    if icc_profile[16:20] != _SPACE_OF_MODE.get(picture.mode):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError):
        return None
